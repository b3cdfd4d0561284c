"""Replicas of the tools service that book their calls in a real store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from integration.tools.host import Service, tools_service
from support.services import running_stores

from steersman.embedded.nats import NatsServer
from steersman_chatloop.toolbox import Toolbox
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_runtime.rpc import RpcClient
from steersman_tools.plugins import PluginSource


@pytest.fixture
async def booked(nats: NatsServer, database_url: str) -> AsyncGenerator[str]:
    """Stores; the URL of its database."""
    async with running_stores(nats.url(), database_url):
        yield database_url


class StartTools(Protocol):
    async def __call__(self, *sources: PluginSource, **settings: Any) -> Service: ...


@pytest.fixture
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


@pytest.fixture
async def new_toolbox(nats: NatsServer) -> AsyncGenerator[Callable[[], Awaitable[Toolbox]]]:
    """Toolboxes as a chatloop has one, each with a connection of its own."""
    clients: list[NatsClient] = []

    async def make() -> Toolbox:
        client = await connect(
            nats.url(), name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None
        )
        clients.append(client)
        return Toolbox(RpcClient(client))

    yield make
    for client in clients:
        await close(client)
