"""A service of a test's own, with a name that nobody else answers to."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from steersman_contracts.rpc import Method
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import Frames, RpcServer


class Ask(msgspec.Struct, frozen=True):
    text: str = ""


class Answer(msgspec.Struct, frozen=True):
    text: str


class Step(msgspec.Struct, frozen=True):
    number: int


Handler = Callable[[Ask], Awaitable[Answer]]
StreamHandler = Callable[[Ask, Frames], Awaitable[Answer]]


def new_method(*, safe: bool = False) -> Method[Ask, Answer]:
    return Method(f"t{uuid.uuid4().hex}", "test.ask", Ask, Answer, safe=safe)


async def echo(ask: Ask) -> Answer:
    return Answer(ask.text)


@asynccontextmanager
async def serving(
    client: NatsClient,
    method: Method[Ask, Answer],
    handler: Handler | None = None,
    *,
    stream: StreamHandler | None = None,
    concurrency: int = 512,
) -> AsyncGenerator[RpcServer]:
    server = RpcServer(client, method.service, version="1.0.0", concurrency=concurrency)
    if handler is not None:
        server.add(method, handler)
    if stream is not None:
        server.add_stream(method, stream)
    await server.start()
    try:
        yield server
    finally:
        await server.drain(1)


class Gate:
    """A handler that waits until the test opens it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.calls = 0
        self.inside = 0
        self.most = 0

    async def __call__(self, ask: Ask) -> Answer:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.inside -= 1
        return Answer(ask.text)
