"""A lean HTTP client: the load must not cost more than the system that it is put on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar, cast

import httptools
import msgspec

from bench.figures import Wrong

T = TypeVar("T")

# uvicorn closes connections that were idle for five seconds.
_REUSE_S: Final = 3.0
_TIMEOUT_S: Final = 30.0


class Address(NamedTuple):
    """A gateway, and who asks it."""

    host: str
    port: int
    token: str

    def head(self, method: str, path: str, *, body: bytes = b"", cursor: str = "") -> bytes:
        """A whole request."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"host: {self.host}:{self.port}",
            f"authorization: Bearer {self.token}",
        ]
        if cursor:
            lines.append(f"last-event-id: {cursor}")
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class HttpProtocol(asyncio.Protocol):
    """Parses answers; what to do with them is for the classes below."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def send(self, data: bytes) -> None:
        if self.transport is None:
            raise Wrong("the gateway closed the connection")
        self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


class _Exchange(HttpProtocol):
    """One request at a time, answered in full."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: asyncio.Future[bytes] | None = None
        self.first_byte_at = 0.0
        self._parts: list[bytes] = []

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(Wrong("the gateway closed the connection"))

    def on_headers_complete(self) -> None:
        self.first_byte_at = time.monotonic()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        body, self._parts = b"".join(self._parts), []
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(body)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self.answered = asyncio.get_running_loop().create_future()
        self.send(request)
        async with asyncio.timeout(_TIMEOUT_S):
            body = await self.answered
        return self.parser.get_status_code(), body


async def connect(address: Address, make: Callable[[], HttpProtocol]) -> None:
    """Open a connection for a new protocol."""
    await asyncio.get_running_loop().create_connection(make, address.host, address.port)


class Api:
    """REST over one connection, opened again when it was idle."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connection: _Exchange | None = None
        self._used_at = 0.0

    async def ready(self) -> None:
        """Have a connection, so that the next request does not pay for it."""
        idle_s = time.monotonic() - self._used_at
        if self._connection is None or self._connection.transport is None or idle_s > _REUSE_S:
            self.close()
            connection = _Exchange()
            await connect(self.address, lambda: connection)
            self._connection = connection
            self._used_at = time.monotonic()

    async def call(
        self, method: str, path: str, kind: type[T], body: dict[str, object] | None = None
    ) -> T:
        """Ask, and decode the answer.

        Raises:
            Wrong: It is not a success.
        """
        return msgspec.json.decode(await self.raw(method, path, body), type=kind)

    async def raw(self, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
        """Ask; gives the answer as it came.

        Raises:
            Wrong: It is not a success.
        """
        data = b"" if body is None else msgspec.json.encode(body)
        await self.ready()
        connection = self._connection
        if connection is None:
            raise Wrong("there is no connection")
        status, answer = await connection.ask(
            self.address.head(method, f"/api/v1{path}", body=data)
        )
        self._used_at = time.monotonic()
        if not 200 <= status < 300:
            raise Wrong(f"{method} {path} answered {status}: {answer[:300].decode()}")
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def first_byte_s(address: Address, path: str) -> float:
    """Seconds from opening a connection to the first byte of an answer: what HTTP itself costs."""
    exchange = _Exchange()
    began = time.monotonic()
    await connect(address, lambda: exchange)
    try:
        await exchange.ask(address.head("GET", path))
    finally:
        exchange.close()
    return exchange.first_byte_at - began
