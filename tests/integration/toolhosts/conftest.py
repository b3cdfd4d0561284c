"""Replicas of the tools service that book their calls in a real store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from integration.tools.host import Service, tools_service
from support.chat_driver import StoreDriver
from support.connections import connected
from support.stacks import (
    client,
    database_url,
    nats,
    one_stack,
    share_loops,
    shared,
    store,
)

from steersman.embedded.nats import NatsServer
from steersman_chatloop.toolbox import Toolbox
from steersman_runtime.nats_client import NatsClient, close
from steersman_runtime.rpc import RpcClient
from steersman_tools.plugins import PluginSource

__all__ = ["client", "database_url", "nats", "one_stack", "shared", "store"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    share_loops(items, HERE)


@pytest.fixture
def booked(store: StoreDriver, database_url: str) -> str:
    """Stores; the URL of their database."""
    del store  # it only has to be there
    return database_url


class StartTools(Protocol):
    async def __call__(self, *sources: PluginSource, **settings: Any) -> Service: ...


@pytest_asyncio.fixture(loop_scope="module")
async def start_tools(nats: NatsServer, booked: str, tmp_path: Path) -> AsyncGenerator[StartTools]:
    """Starts a replica with these plugins, in the test's process."""
    del booked  # it only has to be there
    async with AsyncExitStack() as stack:

        async def start(*sources: PluginSource, **settings: Any) -> Service:
            settings = {
                "workspaces_dir": str(tmp_path / "workspaces"),
                "host_lease_s": 30.0,
                "toolset_patience_s": 5.0,
                **settings,
            }
            return await stack.enter_async_context(tools_service(nats.url(), sources, settings))

        yield start


@pytest_asyncio.fixture(loop_scope="module")
async def new_toolbox(nats: NatsServer) -> AsyncGenerator[Callable[[], Awaitable[Toolbox]]]:
    """Toolboxes as a chatloop has one, each with a connection of its own."""
    clients: list[NatsClient] = []

    async def make() -> Toolbox:
        connection = await connected(nats.url())
        clients.append(connection)
        return Toolbox(RpcClient(connection))

    yield make
    for connection in clients:
        await close(connection)
