"""HTTP to where a model or a user points: only to addresses that may be reached for them.

The rules are in `addresses`; this is how a connection keeps to them. It needs httpcore2, which the
extra `http` of this package brings; nothing else here imports it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

import httpcore2

from steersman_contracts.addresses import PrivateHosts, check

_NEXT_AFTER_S: Final = 4.0
"""How long an address may be silent before the next one of the host is tried."""

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host, in the order in which to try them.

    Raises:
        httpcore2.ConnectError: There are none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"the host {host!r} was not found") from error
    return [str(entry[4][0]) for entry in found]


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves once, checks every address, and connects to what was checked.

    TLS comes afterwards and still goes by the name, so that nothing is looked up a second time.
    Give it to a pool without a proxy, which would look names up by itself.
    """

    def __init__(self, private: PrivateHosts, resolve: Resolve = resolve) -> None:
        """Guard a pool of connections.

        Args:
            private: What may be reached although it is not public.
            resolve: Finds addresses; another one in tests.
        """
        self._resolve = resolve
        self._private = private
        # Its other definition is for machines without anyio.
        self._inner: httpcore2.AsyncNetworkBackend = httpcore2.AnyIOBackend()  # pyright: ignore[reportAttributeAccessIssue]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers.

        Raises:
            Refused: From `addresses`: one of them may not be reached.
        """
        addresses = check(host, port, await self._resolve(host, port), self._private)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(
                    address, port, _NEXT_AFTER_S, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(
            addresses[-1], port, timeout, local_address, socket_options
        )
