"""SDK clients, shared by all calls to the same place with the same key."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Final, Generic, TypeVar

import httpx2

from steersman_contracts.rpc.worker import ModelAccess

C = TypeVar("C")

MAX_IDLE_CLIENTS: Final = 32
MAX_CALLS_PER_CLIENT: Final = 16
"""The SDKs' connection pool looks at each of its connections at every begin and end of a request:
with hundreds of streams on one client that was a fifth of this process's time."""

NO_KEY: Final = "no-key"
"""Sent to servers that want none: without one the SDKs would look into the environment."""


@cache
def tls() -> ssl.SSLContext:
    """One context for all clients: each would read all the certificates again, for 40 ms."""
    return httpx2.create_ssl_context()


class _Entry(Generic[C]):
    __slots__ = ("client", "users")

    def __init__(self, client: C) -> None:
        self.client = client
        self.users = 0


class ClientPool(Generic[C]):
    """Clients by base URL and key, several for many calls. Idle ones are closed in time."""

    def __init__(
        self,
        build: Callable[[ModelAccess], C],
        close: Callable[[C], Awaitable[None]],
        *,
        max_idle: int = MAX_IDLE_CLIENTS,
    ) -> None:
        tls()  # now, in the thread that imports the SDK, and not when the first chat waits
        self._build = build
        self._close = close
        self._max_idle = max_idle
        self._entries: OrderedDict[tuple[str | None, str | None, int], _Entry[C]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def lease(self, access: ModelAccess) -> AsyncGenerator[C]:
        """Hold a client; it is not closed while it is held."""
        number = 0
        while True:
            key = (access.base_url, access.api_key, number)
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(self._build(access))
            if entry.users < MAX_CALLS_PER_CLIENT:
                break
            number += 1
        self._entries.move_to_end(key)
        entry.users += 1
        try:
            yield entry.client
        finally:
            entry.users -= 1
            await self._evict()

    async def _evict(self) -> None:
        while len(self._entries) > self._max_idle:
            idle = next((key for key, entry in self._entries.items() if not entry.users), None)
            if idle is None:
                return
            await self._close(self._entries.pop(idle).client)

    async def aclose(self) -> None:
        """Close all clients, held or not."""
        while self._entries:
            _, entry = self._entries.popitem()
            await self._close(entry.client)
