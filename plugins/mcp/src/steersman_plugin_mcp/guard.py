"""Connections for users: only to addresses that a user may make us reach."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Final

import httpcore2
import httpx2

from steersman_contracts.addresses import PrivateHosts, Refused, check

_NEXT_AFTER_S: Final = 4.0
"""How long an address may be silent before the next one of the host is tried."""


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves once, checks every address, and connects to what was checked.

    TLS comes afterwards and still goes by the name, so that nothing is looked up a second time.
    """

    def __init__(self, private: PrivateHosts) -> None:
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
        try:
            addresses = check(host, port, await _resolve(host, port), self._private)
        except Refused as refused:
            raise httpcore2.ConnectError(str(refused)) from refused
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


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"the host {host!r} was not found") from error
    return [str(entry[4][0]) for entry in found]


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """HTTP without proxies, to checked addresses alone."""

    def __init__(self, private: PrivateHosts, limits: httpx2.Limits) -> None:
        """Check against public addresses, and what an administrator allows beside them."""
        super().__init__(limits=limits)
        # It takes no backend: the pool is its one field.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpcore2.default_ssl_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_CheckedBackend(private),
        )
