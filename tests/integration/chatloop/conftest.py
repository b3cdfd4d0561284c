"""Two chatloops beside two stores, strict fake providers, and a tool host of the test's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from fakes import FakeProviders
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup, ToolHost
from support.services import running_chatloops

from steersman.embedded.nats import NatsServer
from steersman_contracts.rpc.tools import CALL_TOOL, CANCEL_CALL, LIST_TOOLS
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcServer


@pytest.fixture
async def fakes() -> AsyncGenerator[FakeProviders]:
    """Whatever is asked of it that a real provider would refuse fails the test."""
    async with FakeProviders() as providers:
        yield providers
        assert [request.refusal for request in providers.refused] == []


@pytest.fixture
def models(store: StoreDriver, fakes: FakeProviders) -> ModelSetup:
    """For tests that talk to a provider."""
    return ModelSetup(store, fakes)


@pytest.fixture
async def tool_host(client: NatsClient) -> AsyncGenerator[ToolHost]:
    """Answers the tools RPC instead of the tools service."""
    host = ToolHost()
    server = RpcServer(client, "tools", version="0.0.1")
    server.add(LIST_TOOLS, host.catalog)
    server.add_stream(CALL_TOOL, host.call)
    server.add(CANCEL_CALL, host.cancel)
    await server.start()
    yield host
    await server.drain(0.1)


@pytest.fixture
async def chatloops(
    nats: NatsServer, store: StoreDriver, tool_host: ToolHost
) -> AsyncGenerator[None]:
    """Whichever is free takes a chat. A first turn would wait a second for tools nobody has."""
    _ = store, tool_host
    async with running_chatloops(nats.url()):
        yield
