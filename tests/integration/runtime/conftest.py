from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
import structlog

from steersman.embedded.nats import NatsServer
from steersman_runtime.nats_client import NatsClient, close, connect


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """The default formatter spends seconds on drawing the local variables of every frame."""
    *processors, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, renderer])


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """One server for the tests of this worker that leave it alone."""
    with NatsServer() as server:
        yield server


@pytest.fixture
async def own_nats() -> AsyncIterator[NatsServer]:
    """A server that the test may kill."""
    async with NatsServer() as server:
        yield server


class Connect(Protocol):
    async def __call__(self, server: NatsServer | None = None) -> NatsClient: ...


@pytest.fixture
async def new_client(nats: NatsServer) -> AsyncGenerator[Connect]:
    """Connects to the shared server, or to another one."""
    async with AsyncExitStack() as stack:

        async def open_client(server: NatsServer | None = None) -> NatsClient:
            client = await connect(
                (server or nats).url(),
                name="test",
                inbox_prefix="_INBOX_test",
                on_closed=lambda: None,
            )
            stack.push_async_callback(close, client)
            return client

        yield open_client


@pytest.fixture
async def client(new_client: Connect) -> NatsClient:
    return await new_client()
