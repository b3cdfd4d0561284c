"""Real parts for every integration test: its own database, its own NATS."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Generator
from types import ModuleType

import pytest
from support.chat_driver import StoreDriver, new_actor
from support.connections import connected
from support.databases import drop_database, make_template, new_database
from support.services import running_stores

from steersman.embedded.nats import NatsServer
from steersman.embedded.postgres import PostgresServer
from steersman_runtime.nats_client import NatsClient, close


@pytest.fixture(autouse=True)
def plugins_as_they_were() -> Generator[None]:
    """A test that loads plugins anew leaves the modules that other tests have imported."""
    before = _plugin_modules()
    yield
    # What was first imported by a reloaded package belongs to that one, and goes with it.
    for name in _plugin_modules().keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)


def _plugin_modules() -> dict[str, ModuleType]:
    return {n: m for n, m in list(sys.modules.items()) if n.startswith("steersman_plugin_")}


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer]:
    """One PostgreSQL for each test process."""
    server = PostgresServer()
    server.start()
    try:
        asyncio.run(make_template(server.dsn))
        yield server
    finally:
        server.stop()


@pytest.fixture
async def database_url(postgres: PostgresServer) -> AsyncGenerator[str]:
    """A migrated database of the test's own."""
    url = await new_database(postgres.dsn)
    yield url
    await drop_database(postgres.dsn, url)


@pytest.fixture
def nats() -> Generator[NatsServer]:
    """A NATS server of the test's own."""
    server = NatsServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def client(nats: NatsServer) -> AsyncGenerator[NatsClient]:
    """A connection to it."""
    connection = await connected(nats.url())
    yield connection
    await close(connection)


@pytest.fixture
async def store(
    nats: NatsServer, database_url: str, client: NatsClient
) -> AsyncGenerator[StoreDriver]:
    """Two stores on one database, and somebody who knows them."""
    async with running_stores(nats.url(), database_url):
        yield StoreDriver(client, await new_actor(database_url))
