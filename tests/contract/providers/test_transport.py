"""The client of all model calls against raw servers: what HTTP allows and what servers do wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import httpx2
import pytest

from steersman_chatloop.providers import transport
from steersman_chatloop.providers.clients import tls

WAIT_S = 20.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"

Answer: TypeAlias = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request, as its bytes came, and the way back."""

    def __init__(self, head: str, body: bytes, writer: asyncio.StreamWriter, number: int) -> None:
        self.head = head
        self.body = body
        self.writer = writer
        self.connection = number

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class Server:
    """Answers every request with one function and remembers what came."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[Exchange] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = [line.partition(":") for line in head.lower().splitlines()]
                size = next((int(v) for name, _, v in fields if name == "content-length"), 0)
                exchange = Exchange(head, await reader.readexactly(size), writer, number)
                self.seen.append(exchange)
                await self.answer(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(WAIT_S):
            yield server
    finally:
        listening.close()


@pytest.fixture
async def client() -> AsyncGenerator[httpx2.AsyncClient]:
    async with transport.client(tls()) as made:
        yield made


def answering(data: bytes) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)

    return answer


async def test_a_connection_is_used_again_and_nothing_else_is_kept(
    client: httpx2.AsyncClient,
) -> None:
    cookie = OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=secret\r\n\r\n")
    async with serving(answering(cookie)) as server:
        for _ in range(3):
            assert (await client.post(server.url, content=b"{}")).text == "hi"
            client.cookies.clear()  # httpx2's own; the transport's would go out all the same
    assert server.connections == 1
    assert not any("cookie:" in exchange.head.lower() for exchange in server.seen)


async def test_a_request_is_sent_as_it_was_written(client: httpx2.AsyncClient) -> None:
    async with serving(answering(OK)) as server:
        await client.post(
            f"{server.url}/model/a%3Ab%2Fc;x/invoke?q=a%20b%2B",
            content=b"{}",
            headers={"X-Mixed-Case": "v", "user-agent": "ours"},
        )
    lines = server.seen[0].head.splitlines()
    assert lines[0] == "POST /model/a%3Ab%2Fc;x/invoke?q=a%20b%2B HTTP/1.1"
    assert "X-Mixed-Case: v" in lines
    assert [line for line in lines if line.lower().startswith("user-agent")] == ["user-agent: ours"]
    assert not any(line.lower().startswith("content-type") for line in lines)


async def test_a_body_of_many_megabytes_arrives_whole(client: httpx2.AsyncClient) -> None:
    content = bytes(range(256)) * (12 * 4096)
    async with serving(answering(OK)) as server:
        assert (await client.post(server.url, content=content)).status_code == 200
    assert server.seen[0].body == content


async def test_a_redirect_takes_the_body_along(client: httpx2.AsyncClient) -> None:
    async def answer(exchange: Exchange) -> None:
        first = exchange.head.startswith("POST /old ")
        moved = b"HTTP/1.1 307 Moved\r\nlocation: /new\r\ncontent-length: 0\r\n\r\n"
        await exchange.send(moved if first else OK)

    async with serving(answer) as server:
        assert (await client.post(f"{server.url}/old", content=b"{1}")).text == "hi"
    assert [exchange.body for exchange in server.seen] == [b"{1}", b"{1}"]


async def test_headers_longer_than_most_are_read(client: httpx2.AsyncClient) -> None:
    long = b"x" * 30_000
    async with serving(answering(OK.replace(b"hi", b"").replace(b": 2", b": 0").rstrip()
                                 + b"\r\nx-long: " + long + b"\r\n\r\n")) as server:  # fmt: skip
        assert (await client.get(server.url)).headers["x-long"] == long.decode()


async def test_what_has_arrived_is_given_on_at_once(client: httpx2.AsyncClient) -> None:
    seen = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await seen.wait()
        await exchange.send(b"3\r\ntwo\r\n0\r\n\r\n")

    async with serving(answer) as server, client.stream("GET", server.url) as response:
        chunks: list[bytes] = []
        async for chunk in response.aiter_raw():
            chunks.append(chunk)
            seen.set()
    assert chunks == [b"one", b"two"]


async def test_leaving_a_body_early_ends_the_connection(client: httpx2.AsyncClient) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")

    async with serving(answer) as server:
        async with client.stream("GET", server.url) as response:
            body = response.aiter_raw()
            assert isinstance(body, AsyncGenerator)
            async with aclosing(body) as chunks:
                assert await anext(chunks) == b"one"
        await server.gone.wait()


BROKEN: list[tuple[bytes, type[httpx2.HTTPError]]] = [
    (b"", httpx2.RemoteProtocolError),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", httpx2.RemoteProtocolError),
    (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        httpx2.RemoteProtocolError,
    ),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", httpx2.RemoteProtocolError),
]


@pytest.mark.parametrize(("sent", "kind"), BROKEN, ids=["nothing", "length", "chunks", "no http"])
async def test_an_answer_that_is_none_is_an_error_of_the_protocol(
    client: httpx2.AsyncClient, sent: bytes, kind: type[httpx2.HTTPError]
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(sent)
        exchange.writer.close()

    async with serving(answer) as server:
        with pytest.raises(kind) as caught:
            await client.post(server.url, content=b"{}")
    assert type(caught.value) is kind


async def test_a_reset_is_an_error_of_the_network(client: httpx2.AsyncClient) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")
        exchange.writer.transport.abort()

    async with serving(answer) as server:
        with pytest.raises(httpx2.TransportError):
            await client.post(server.url, content=b"{}")


async def test_a_header_with_a_line_end_is_never_sent(client: httpx2.AsyncClient) -> None:
    async with serving(answering(OK)) as server:
        with pytest.raises(httpx2.LocalProtocolError):
            await client.get(server.url, headers={"x-a": "b\r\nx-c: d"})
    assert server.seen == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nowhere"])
async def test_an_address_of_another_kind_is_refused(client: httpx2.AsyncClient, url: str) -> None:
    with pytest.raises(httpx2.UnsupportedProtocol):
        await client.get(url)


async def test_connecting_has_a_limit(client: httpx2.AsyncClient) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()  # never says hello: TLS does not begin
        writer.close()

    ended = asyncio.Event()
    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    with pytest.raises(httpx2.ConnectTimeout):
        await client.get(f"https://127.0.0.1:{port}/", timeout=httpx2.Timeout(None, connect=0.2))
    ended.set()
    listening.close()


async def test_a_certificate_that_nobody_signed_is_refused(
    client: httpx2.AsyncClient, certificate: tuple[Path, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with serving(answering(OK), context) as server:
        with pytest.raises(httpx2.ConnectError, match="certificate verify failed"):
            await client.get(server.url)
        assert server.seen == []
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        async with transport.client(trusting) as knowing:
            assert (await knowing.get(server.url)).text == "hi"


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(OK)) as server:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", server.url)
        async with transport.client(tls()) as behind:
            assert (await behind.get("http://models.example/v1")).text == "hi"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with transport.client(tls()) as behind:
            assert (await behind.get(f"{server.url}/v1")).text == "hi"
    lines = [exchange.head.splitlines()[0] for exchange in server.seen]
    assert lines == ["GET http://models.example/v1 HTTP/1.1", "GET /v1 HTTP/1.1"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
