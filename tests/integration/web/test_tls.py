"""Over TLS the address is the one that was checked, and the name is the one of the URL."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from integration.web.site import fixed, page, serving

from steersman_contracts.addresses import PrivateHosts
from steersman_contracts.hooks import ToolResult
from steersman_contracts.testing import LocalContext
from steersman_plugin_web.fetch import Fetcher, WebFetch
from steersman_plugin_web.getting import Getter

NAME = "site.test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of `site.test` that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "site.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


async def _here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def _fetch(certificate: Path, host: str) -> tuple[ToolResult, list[str | None], list[str]]:
    asked: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda _connection, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with serving(fixed({"/": page("over TLS")}), tls) as site:
        private = PrivateHosts.parse(f"127.0.0.1:{site.port}")
        fetcher = Fetcher(Getter(private, _here, trusting), None)
        async with asyncio.timeout(50):
            result = await fetcher(
                LocalContext(Path("/")), WebFetch(f"https://{host}:{site.port}/")
            )
        return result, asked, [request.headers["host"] for request in site.requests]


async def test_the_certificate_of_the_name_is_asked_for_and_believed(certificate: Path) -> None:
    result, asked, hosts = await _fetch(certificate, NAME)
    assert not result.is_error, result.text
    assert asked == [NAME]
    assert [host.partition(":")[0] for host in hosts] == [NAME]


async def test_a_certificate_of_another_name_is_not_believed(certificate: Path) -> None:
    result, asked, hosts = await _fetch(certificate, "other.test")
    assert result.is_error
    assert "no connection to 'other.test'" in result.text
    assert (asked, hosts) == (["other.test"], [])
