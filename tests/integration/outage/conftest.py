"""Two of every service on one database: stores, chatloops, gateways; and a strict fake provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
import pytest
from fakes import FakeProviders
from integration.gateway.driver import running_gateway
from support.chat_driver import StoreDriver, new_actor
from support.services import running_chatloops, running_stores

from steersman.embedded.nats import NatsServer
from steersman_contracts.rpc import admin
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.service import Runtime


@pytest.fixture
async def fakes() -> AsyncGenerator[FakeProviders]:
    """Whatever is asked of it that a real provider would refuse fails the test."""
    async with FakeProviders() as providers:
        yield providers
        assert [request.refusal for request in providers.refused] == []


@pytest.fixture
async def stores(nats: NatsServer, database_url: str) -> AsyncGenerator[tuple[Runtime, Runtime]]:
    async with running_stores(nats.url(), database_url) as stores:
        yield stores


@pytest.fixture
async def store(
    stores: tuple[Runtime, Runtime], database_url: str, client: NatsClient
) -> StoreDriver:
    """Whichever store answers."""
    del stores
    return StoreDriver(client, await new_actor(database_url))


@pytest.fixture
async def chatloops(nats: NatsServer, store: StoreDriver) -> AsyncGenerator[None]:
    del store
    async with running_chatloops(nats.url()):
        yield


@pytest.fixture
async def people(
    nats: NatsServer, store: StoreDriver
) -> AsyncGenerator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """One person at two gateways."""
    token = (await store.rpc.call(admin.BOOTSTRAP, admin.Bootstrap())).token
    async with (
        running_gateway(nats.url(), instance="gateway-1") as one,
        running_gateway(nats.url(), instance="gateway-2") as two,
        one.client(token) as first,
        two.client(token) as second,
    ):
        yield first, second
