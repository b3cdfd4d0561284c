"""Two chatloops beside two stores, strict fake providers, and a tool host of the test's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from fakes import FakeProviders
from support.chat_driver import StoreDriver
from support.chatloop import ModelSetup, ToolHost, serving_tools
from support.services import running_chatloops
from support.stacks import client, database_url, nats, one_stack, share_loops, shared, store

from steersman.embedded.nats import NatsServer
from steersman_runtime.nats_client import NatsClient

__all__ = ["client", "database_url", "nats", "one_stack", "shared", "store"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    share_loops(items, HERE)


@pytest_asyncio.fixture(loop_scope="module")
async def fakes() -> AsyncGenerator[FakeProviders]:
    """Whatever is asked of it that a real provider would refuse fails the test."""
    async with FakeProviders() as providers:
        yield providers
        assert [request.refusal for request in providers.refused] == []


@pytest.fixture
def models(store: StoreDriver, fakes: FakeProviders) -> ModelSetup:
    """For tests that talk to a provider."""
    return ModelSetup(store, fakes)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def tool_host(client: NatsClient) -> AsyncGenerator[ToolHost]:
    """Tools that the test writes."""
    async with serving_tools(client) as host:
        yield host


@pytest_asyncio.fixture(loop_scope="module")
async def chatloops(nats: NatsServer, store: StoreDriver) -> AsyncGenerator[None]:
    """Whichever is free takes a chat."""
    async with running_chatloops(nats.url()):
        yield
