"""Which VNC servers people may name: nothing but what a rule admits, whatever a name points at."""

from __future__ import annotations

import ipaddress

import pytest

from steersman_contracts.errors import Forbidden, InvalidRequest
from steersman_desktop.servers import admitted, read_rules, resolve, split_address


@pytest.mark.parametrize(
    ("rules", "host", "address", "port", "found"),
    [
        ("", "10.1.2.3", "10.1.2.3", 5900, False),
        ("10.1.0.0/16", "10.1.2.3", "10.1.2.3", 5900, True),
        ("10.1.0.0/16", "10.1.2.3", "10.1.2.3", 5999, True),
        ("10.1.0.0/16", "10.1.2.3", "10.1.2.3", 6000, False),
        ("10.1.0.0/16", "10.1.2.3", "10.1.2.3", 22, False),
        ("10.1.0.0/16:22", "10.1.2.3", "10.1.2.3", 22, True),
        ("10.1.0.0/16:22", "10.1.2.3", "10.1.2.3", 5900, False),
        ("10.1.0.0/16", "inside.test", "10.1.2.3", 5900, True),
        ("10.1.0.0/16", "rebound.test", "127.0.0.1", 5900, False),
        ("10.1.0.0/16", "10.2.0.1", "10.2.0.1", 5900, False),
        ("10.1.0.0/16", "mapped", "::ffff:10.1.2.3", 5900, True),
        ("127.0.0.0/8", "mapped", "::ffff:127.0.0.1", 5900, True),
        ("192.0.2.7", "192.0.2.7", "192.0.2.7", 5901, True),
        ("[fd00::/8]:5900-5901", "fd00::1", "fd00::1", 5901, True),
        ("[fd00::/8]:5900-5901", "fd00::1", "fd00::1", 5902, False),
        ("fd00::/8", "fd00::1", "fd00::1", 5900, True),
        ("vnc.test", "vnc.test", "203.0.113.9", 5900, True),
        ("vnc.test:7000", "vnc.test", "203.0.113.9", 7000, True),
        ("VNC.test.", "vnc.test", "203.0.113.9", 5900, True),
        ("vnc.test", "evil.vnc.test", "203.0.113.9", 5900, False),
        ("vnc.test", "vnc.test", "127.0.0.1", 5900, False),
        ("vnc.test", "vnc.test", "::1", 5900, False),
        ("vnc.test", "vnc.test", "::ffff:127.0.0.1", 5900, False),
        ("vnc.test", "vnc.test", "169.254.169.254", 5900, False),
        ("vnc.test", "vnc.test", "0.0.0.0", 5900, False),
        ("localhost", "localhost", "127.0.0.1", 5900, True),
        ("a.test 10.0.0.0/8", "10.0.0.1", "10.0.0.1", 5900, True),
    ],
)
def test_rules_are_about_where_a_connection_would_go(
    rules: str, host: str, address: str, port: int, found: bool
) -> None:
    to = admitted(read_rules(rules), host, [ipaddress.ip_address(address)], port)

    assert (to is not None) == found


@pytest.mark.parametrize(
    "rules", ["10.1.0.0/33", "10.1.2.3.4", "vnc.test:x", "*.test", "a/b", "[::"]
)
def test_a_rule_that_is_none_is_refused(rules: str) -> None:
    with pytest.raises(ValueError, match="not a "):
        read_rules(rules)


@pytest.mark.parametrize(
    "address",
    ["vnc.test", "vnc.test:", ":5900", "vnc.test:0", "vnc.test:65536", "unix:/tmp/x", "a b:1"],
)
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        split_address(address)
    assert refused.value.details["field"] == "address"


async def test_what_is_connected_to_is_an_address_in_numbers() -> None:
    rules = read_rules("127.0.0.0/8 [::1]")

    assert await resolve("127.0.0.1:5901", rules) == "127.0.0.1:5901"
    assert await resolve("[::1]:5901", rules) == "[::1]:5901"
    with pytest.raises(Forbidden, match=r"does not allow the VNC server 192\.0\.2\.1:5900"):
        await resolve("192.0.2.1:5900", rules)
    with pytest.raises(Forbidden, match="does not allow"):
        await resolve("127.0.0.1:5901", ())
