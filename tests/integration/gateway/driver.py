"""A gateway under test, and a client of its event streams."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import uvicorn
from litestar import Litestar

from steersman_gateway.app import Gateway, create_app, tune_socket
from steersman_gateway.settings import Settings
from steersman_runtime.service import Runtime, listening_socket
from steersman_runtime.settings import Secret

PATIENCE_S = 45.0


@dataclass
class RunningGateway:
    address: str
    app: Litestar
    runtime: Runtime

    @property
    def service(self) -> Gateway:
        return self.app.state.service

    def client(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return httpx2.AsyncClient(
            base_url=self.address, headers=headers, timeout=PATIENCE_S, transport=_transport()
        )


def _transport() -> httpx2.AsyncHTTPTransport:
    return httpx2.AsyncHTTPTransport(
        limits=httpx2.Limits(max_connections=None),
        verify=False,  # no TLS here, and its setup takes longer than a test
    )


@dataclass
class RunningGateways:
    """Replicas behind one address, as behind a load balancer: each request goes to any of them."""

    replicas: tuple[RunningGateway, ...]

    @property
    def address(self) -> str:
        """What browsers see, whoever answers."""
        return self.replicas[0].address

    @property
    def watched(self) -> int:
        """How many feeds are open in all."""
        return sum(len(replica.service.streams.feeds) for replica in self.replicas)

    def client(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return httpx2.AsyncClient(
            base_url=self.address,
            headers=headers,
            timeout=PATIENCE_S,
            transport=_RandomRouting([replica.address for replica in self.replicas]),
        )


class _RandomRouting(httpx2.AsyncBaseTransport):
    """Sends each request to one of several servers; its `Host` stays what the client said."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._ports = [int(address.rpartition(":")[2]) for address in addresses]
        self._transport = _transport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(port=random.choice(self._ports))  # no secret
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


@asynccontextmanager
async def running_gateways(nats_url: str, **changes: Any) -> AsyncGenerator[RunningGateways]:
    """Two replicas."""
    async with (
        running_gateway(nats_url, instance="gateway-1", **changes) as one,
        running_gateway(nats_url, instance="gateway-2", **changes) as two,
    ):
        yield RunningGateways((one, two))


class _Server(uvicorn.Server):
    """Leaves the signals of the test process alone, and says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


_BUILT: dict[str, list[tuple[Litestar, Runtime]]] = {}
"""Applications that were stopped, by their settings: 200 routes take a third of a second to build,
and what a gateway has while it runs is made when it starts."""


def _build(settings: Settings) -> tuple[Litestar, Runtime]:
    runtime = Runtime("gateway", settings)
    return create_app(runtime, settings), runtime


@asynccontextmanager
async def running_gateway(nats_url: str, **changes: Any) -> AsyncGenerator[RunningGateway]:
    settings = Settings(nats_url=Secret(nats_url), **changes)
    built = _BUILT.setdefault(repr(sorted(changes.items())), [])
    app, runtime = built.pop() if built else _build(settings)
    Runtime.__init__(runtime, "gateway", settings)  # as in a process that has just started
    sock = listening_socket("127.0.0.1:0")
    tune_socket(sock)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await server.up.wait()
        port = sock.getsockname()[1]
        yield RunningGateway(f"http://127.0.0.1:{port}", app, runtime)
    finally:
        runtime.begin_stop()
        server.should_exit = True
        await serving
    built.append((app, runtime))


@dataclass(frozen=True)
class Received:
    """One server-sent event."""

    id: str
    name: str
    data: bytes

    @property
    def seq(self) -> int:
        return int(self.id.partition(".")[2])

    @property
    def body(self) -> dict[str, Any]:
        return msgspec.json.decode(self.data)


class EventStream:
    """What a client reads of one stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.retry: str | None = None
        self.last_id = ""
        """What a browser would send when it connects again."""
        self.pings = 0
        self._events = self._parse()

    async def _parse(self) -> AsyncIterator[Received]:
        fields: dict[str, str] = {}
        async for line in self.response.aiter_lines():
            if line.startswith(":"):
                self.pings += 1
            elif line:
                name, _, value = line.partition(": ")
                assert name not in fields
                fields[name] = value
            elif "event" in fields:
                self.last_id = fields.get("id", self.last_id)
                yield Received(fields.get("id", ""), fields["event"], fields["data"].encode())
                fields = {}
            else:
                self.last_id = fields.get("id", self.last_id)
                self.retry = fields.get("retry", self.retry)
                fields = {}

    async def next(self) -> Received:
        async with asyncio.timeout(PATIENCE_S):
            return await anext(self._events)

    async def take(self, count: int) -> list[Received]:
        return [await self.next() for _ in range(count)]

    async def until(self, name: str) -> list[Received]:
        """All events up to and with the first one of that name."""
        found = [await self.next()]
        while found[-1].name != name:
            found.append(await self.next())
        return found

    async def rest(self) -> list[Received]:
        """All events until the server ends the stream."""
        async with asyncio.timeout(PATIENCE_S):
            return [event async for event in self._events]


@asynccontextmanager
async def watching(
    client: httpx2.AsyncClient,
    chat_id: str,
    *,
    after: str | None = None,
    **query: str,
) -> AsyncGenerator[EventStream]:
    async with _watching(client, f"/api/v1/chats/{chat_id}/events", after, query) as stream:
        yield stream


@asynccontextmanager
async def watching_chats(
    client: httpx2.AsyncClient, *, after: str | None = None, **query: str
) -> AsyncGenerator[EventStream]:
    """The feed of all chats of a person."""
    async with _watching(client, "/api/v1/events", after, query) as stream:
        yield stream


@asynccontextmanager
async def _watching(
    client: httpx2.AsyncClient, path: str, after: str | None, query: Mapping[str, str]
) -> AsyncGenerator[EventStream]:
    headers: Mapping[str, str] = {} if after is None else {"Last-Event-ID": after}
    async with client.stream("GET", path, params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield EventStream(response)
