"""Which VNC servers people may name for their desktops: those that the administrator allows.

Without a rule nobody may: this service sits inside, and would carry people wherever they point.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from steersman_contracts.errors import Forbidden, InvalidRequest

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS: Final = range(5900, 6000)
"""Of a rule that names none."""
_LOOKUP_S: Final = 5.0


class Rule(NamedTuple):
    """One entry of the setting."""

    name: str
    """A host name in small letters; empty: the network."""
    network: Network | None
    ports: range

    def admits(self, host: str, address: Address, port: int) -> bool:
        """Whether a connection to this address, which the host has, is allowed."""
        if port not in self.ports:
            return False
        if self.network is not None:
            return address.version == self.network.version and address in self.network
        # Whoever has the name could point it at what only this host reaches.
        inside = address.is_loopback and self.name != "localhost"
        return host == self.name and not (inside or address.is_link_local or _is_nobody(address))


def read_rules(text: str) -> tuple[Rule, ...]:
    """Read the setting: networks and host names, each with ports if need be, between spaces.

    `10.1.0.0/16`, `[fd00::/8]:5900`, `vnc.example.org:5900-5905`.

    Raises:
        ValueError: An entry is none of that.
    """
    return tuple(map(_rule, text.split()))


def split_address(address: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        InvalidRequest: It is not `host:port`.
    """
    host, colon, port = address.rpartition(":")
    host = host.strip("[]").rstrip(".").lower()
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise InvalidRequest(f"address is {address!r:.100}; it must be host:port", field="address")
    if not all(c.isascii() and (c.isalnum() or c in "-._:") for c in host):
        raise InvalidRequest(f"address has no host name: {host!r:.100}", field="address")
    return host, int(port)


async def resolve(address: str, rules: Sequence[Rule]) -> str:
    """Where to connect: an address in numbers, so that a name cannot mean another one afterwards.

    Raises:
        Forbidden: No rule admits it.
        InvalidRequest: It is not `host:port`.
    """
    host, port = split_address(address)
    found = admitted(rules, host, await _look_up(host, port) if rules else (), port)
    if found is None:
        # The same whether the name exists or not: it is not for everybody to find out.
        raise Forbidden(
            f"this deployment does not allow the VNC server {host}:{port}; its administrator can",
            field="address",
        )
    return f"[{found}]:{port}" if found.version == 6 else f"{found}:{port}"


def admitted(
    rules: Iterable[Rule], host: str, addresses: Iterable[Address], port: int
) -> Address | None:
    """The first address that a rule admits; None if there is none."""
    known = [_plain(address) for address in addresses]
    return next(
        (address for address in known for rule in rules if rule.admits(host, address, port)), None
    )


async def _look_up(host: str, port: int) -> list[Address]:
    try:
        async with asyncio.timeout(_LOOKUP_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError, UnicodeError):
        return []
    # Not those of one link alone (`fe80::1%eth0`).
    texts = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [ipaddress.ip_address(text) for text in texts if "%" not in text]


def _rule(entry: str) -> Rule:
    text, ports = entry, PORTS
    if entry.startswith("["):
        text, closed, after = entry[1:].partition("]")
        if not closed:
            raise ValueError(f"not a network or a host name: {entry!r}")
        ports = _ports(entry, after.removeprefix(":")) if after else PORTS
    elif entry.count(":") == 1:
        text, _, after = entry.partition(":")
        ports = _ports(entry, after)
    try:
        return Rule("", ipaddress.ip_network(text), ports)
    except ValueError:
        name = text.rstrip(".").lower()
        labels = name.replace("-", "").split(".")
        # The last label of a name has a letter: a mistyped address is no name.
        if "/" in text or not all(map(str.isalnum, labels)) or labels[-1].isdigit():
            raise ValueError(f"not a network or a host name: {entry!r}") from None
        return Rule(name, None, ports)


def _ports(entry: str, text: str) -> range:
    first, _, last = text.partition("-")
    if not (first.isdigit() and (last or first).isdigit()):
        raise ValueError(f"not a port or two: {entry!r}")
    return range(int(first), int(last or first) + 1)


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _is_nobody(address: Address) -> bool:
    return address.is_multicast or address.is_unspecified or address.is_reserved
