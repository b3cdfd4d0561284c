"""Which addresses may be reached for a user: public ones, and what an administrator allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# The special-purpose registries of IANA, written out: what `ipaddress` calls global has changed
# between patch releases of Python.
_SPECIAL_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind the NAT of a carrier
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local: the metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# Of IPv6 only this is handed out; loopback, mapped IPv4, unique local, link-local, site-local and
# multicast addresses all lie outside.
_UNICAST_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: leads to any IPv4 address
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")


class Refused(Exception):
    """It is not reached. The message is for the model: what was refused, and why."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:  # in a network without IPv4, every IPv4 address looks like this
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _UNICAST_V6 and not any(address in network for network in _SPECIAL_V6)


@dataclass(frozen=True, slots=True)
class PrivateHosts:
    """Hosts that may be reached although their addresses are not public.

    Attributes:
        names: Host names in lower case, each with the one port that is meant, or None for all.
        networks: Addresses, likewise.
    """

    names: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[tuple[Network, int | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> PrivateHosts:
        """Read `wiki.intern, 10.1.0.0/16, 127.0.0.1:8080, [::1]:8080`.

        Raises:
            ValueError: An entry is none of these.
        """
        names: set[tuple[str, int | None]] = set()
        networks: list[tuple[Network, int | None]] = []
        for entry in filter(None, (part.strip().lower() for part in text.split(","))):
            host, port = _host_and_port(entry)
            try:
                networks.append((ip_network(host), port))
            except ValueError:
                if not _NAME.fullmatch(host) or not re.search("[a-z]", host):
                    raise ValueError(f"{entry!r} is no host, address or network") from None
                names.add((host, port))
        return cls(frozenset(names), tuple(networks))

    def allow(self, host: str, port: int, address: Address) -> bool:
        """Whether this address of this host may be connected to at this port."""
        if not self.names.isdisjoint({(host.lower(), port), (host.lower(), None)}):
            return True
        return any(
            address in network and allowed in {None, port} for network, allowed in self.networks
        )


def _host_and_port(entry: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?|([^:]*):(\d{1,5})", entry)
    if match is None:
        return entry, None
    host, port = match[1] or match[3], match[2] or match[4]
    return host, int(port) if port else None


def check(host: str, port: int, found: Iterable[str], private: PrivateHosts) -> list[str]:
    """Return the addresses of a host if each of them may be connected to.

    One bad address refuses the host: whoever answers with a mixture wants something.

    Raises:
        Refused: One may not be, or there is none.
    """
    addresses = list(dict.fromkeys(found))
    if not addresses:
        raise Refused(f"the host {host!r} has no address")
    for text in addresses:
        address = ip_address(text)
        if not is_public(address) and not private.allow(host, port, address):
            raise Refused(
                f"the host {host!r} is not on the public internet (its address is {text}), and "
                "only public addresses are reached; an administrator can allow it"
            )
    return addresses
