"""Real parts for every integration test: its own database, its own NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator

import pytest
from support.chat_driver import StoreDriver, new_actor
from support.databases import drop_database, make_template, new_database
from support.services import running_stores

from steersman.embedded.nats import NatsServer
from steersman.embedded.postgres import PostgresServer
from steersman_runtime.nats_client import NatsClient, close, connect


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
    connection = await connect(
        nats.url(), name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None
    )
    yield connection
    await close(connection)


@pytest.fixture
async def store(
    nats: NatsServer, database_url: str, client: NatsClient
) -> AsyncGenerator[StoreDriver]:
    """Two stores on one database, and somebody who knows them."""
    async with running_stores(nats.url(), database_url):
        yield StoreDriver(client, await new_actor(database_url))
