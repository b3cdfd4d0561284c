from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog
from integration.tools.host import Caller, Service, new_chat, tools_service

from steersman.embedded.nats import NatsServer
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_tools.plugins import PluginSource


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """The default formatter spends seconds on drawing the local variables of every frame."""
    *processors, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, renderer])


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """One server for all tests of this worker: each test has its own service and its own chat."""
    with NatsServer() as server:
        yield server


class StartTools(Protocol):
    async def __call__(
        self, *sources: PluginSource, installed: bool = False, **settings: Any
    ) -> Service: ...


@pytest.fixture
async def start_tools(nats: NatsServer, tmp_path: Path) -> AsyncGenerator[StartTools]:
    """Starts a replica of the service with these plugins."""
    async with AsyncExitStack() as stack:

        async def start(
            *sources: PluginSource, installed: bool = False, **settings: Any
        ) -> Service:
            settings = {
                "workspaces_dir": str(tmp_path / "workspaces"),
                "ledger": "memory",
                "toolset_patience_s": 0.0,
                **settings,
            }
            return await stack.enter_async_context(
                tools_service(nats.url(), None if installed else sources, settings)
            )

        yield start


@pytest.fixture
async def new_client(nats: NatsServer) -> AsyncGenerator[Callable[[], Awaitable[NatsClient]]]:
    clients: list[NatsClient] = []

    async def open_client() -> NatsClient:
        client = await connect(
            nats.url(), name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None
        )
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        await close(client)


@pytest.fixture
async def caller(new_client: Callable[[], Awaitable[NatsClient]]) -> Caller:
    return Caller(await new_client(), new_chat())
