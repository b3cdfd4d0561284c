"""Which addresses are public, and what an administrator can allow."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from steersman_contracts.addresses import PrivateHosts, Refused, check, is_public
from steersman_contracts.guarded import resolve

NOBODY = PrivateHosts()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("93.184.215.14", True),
        ("172.15.255.255", True),
        ("172.32.0.1", True),
        ("100.63.255.255", True),
        ("100.128.0.1", True),
        ("223.255.255.255", True),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("100.127.255.255", False),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("192.0.0.192", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("2606:4700:4700::1111", True),
        ("2a00:1450::1", True),
        ("64:ff9b::1.1.1.1", True),
        ("64:ff9b::127.0.0.1", False),
        ("64:ff9b::169.254.169.254", False),
        ("64:ff9b:1::1.1.1.1", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:1.1.1.1", False),
        ("100::1", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("2002:7f00:1::", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("2606:4700::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_an_address_is_public_or_it_is_not(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "017700000001",
        ),
        *("0177.0.0.1", "127.0.0.0x1", "0", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"),
        *("0:0:0:0:0:0:0:1", "169.254.169.254", "2852039166", "0xa9fea9fe", "localhost"),
    ],
)
async def test_every_spelling_of_a_private_address_is_refused(host: str) -> None:
    found = await resolve(host, 80)
    with pytest.raises(Refused, match="not on the public internet"):
        check(host, 80, found, NOBODY)


def test_all_addresses_of_a_host_must_be_public() -> None:
    assert check("h", 80, ["1.1.1.1", "1.1.1.1", "1.0.0.1"], NOBODY) == ["1.1.1.1", "1.0.0.1"]
    with pytest.raises(Refused, match=r"its address is 10\.0\.0\.1"):
        check("h", 80, ["1.1.1.1", "10.0.0.1"], NOBODY)
    with pytest.raises(Refused, match="has no address"):
        check("h", 80, [], NOBODY)


@pytest.mark.parametrize(
    ("allowed", "host", "port", "address", "fits"),
    [
        ("wiki.intern", "wiki.intern", 80, "10.0.0.1", True),
        ("wiki.intern", "Wiki.Intern", 443, "10.0.0.1", True),
        ("wiki.intern", "x.wiki.intern", 80, "10.0.0.1", False),
        ("wiki.intern:8080", "wiki.intern", 8080, "10.0.0.1", True),
        ("wiki.intern:8080", "wiki.intern", 80, "10.0.0.1", False),
        ("10.1.0.0/16", "anything", 80, "10.1.2.3", True),
        ("10.1.0.0/16", "anything", 80, "10.2.0.1", False),
        ("127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1", True),
        ("127.0.0.1:8080", "127.0.0.1", 8081, "127.0.0.1", False),
        ("[::1]:8080", "::1", 8080, "::1", True),
        ("[::1]:8080", "::1", 80, "::1", False),
        ("::1", "::1", 80, "::1", True),
        ("a.b, ,10.0.0.0/8", "c", 80, "10.9.9.9", True),
        ("", "c", 80, "10.9.9.9", False),
    ],
)
def test_an_administrator_allows_hosts_networks_and_ports(
    allowed: str, host: str, port: int, address: str, fits: bool
) -> None:
    assert PrivateHosts.parse(allowed).allow(host, port, ip_address(address)) is fits


@pytest.mark.parametrize("entry", ["http://wiki", "10.0.0.1/8", "*.intern", "a b", "[::1", "1.2.3"])
def test_what_is_no_host_is_refused_in_the_settings(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host, address or network"):
        PrivateHosts.parse(entry)
