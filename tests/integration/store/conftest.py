"""Chats in a database alone, beside the fixtures with running stores.

Two stores, NATS and a database take half a second of work, several times that of most tests here.
The tests of a module that is marked `one_stack` share them, and everything in them is somebody's:
each test has people and chats of its own. Modules that count what is there, stop stores or let
time pass for all chats are not marked; a single test of that kind is marked `own_stack`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from pytest_asyncio import is_async_test
from support.chat_driver import StoreDriver, new_actor
from support.chat_sql import ChatSql, open_chats
from support.databases import drop_database, new_database
from support.services import running_stores

from steersman.embedded.nats import NatsServer
from steersman.embedded.postgres import PostgresServer
from steersman_runtime.nats_client import NatsClient, close, connect

HERE = Path(__file__).parent
_people = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for the tests of a module, because they may share stores."""
    marker = pytest.mark.asyncio(loop_scope="module")
    for item in items:
        if item.path.parent == HERE and is_async_test(item):
            item.add_marker(marker, append=False)


@dataclass(frozen=True)
class Stack:
    """What two stores run on."""

    nats: NatsServer
    database_url: str
    client: NatsClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_stack(postgres: PostgresServer) -> AsyncGenerator[Stack]:
    """Two stores for the tests of a module."""
    url = await new_database(postgres.dsn)
    with NatsServer() as nats:
        client = await _connect(nats)
        async with running_stores(nats.url(), url):
            yield Stack(nats, url, client)
        await close(client)
    await drop_database(postgres.dsn, url)


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Stack | None:
    """The stack of the module, if it has one."""
    wanted = request.node.get_closest_marker
    if wanted("one_stack") is None or wanted("own_stack") is not None:
        return None
    stack: Stack = request.getfixturevalue("one_stack")
    return stack


@pytest.fixture
def nats(shared: Stack | None) -> Generator[NatsServer]:
    if shared is not None:
        yield shared.nats
    else:
        with NatsServer() as server:
            yield server


@pytest_asyncio.fixture(loop_scope="module")
async def database_url(shared: Stack | None, postgres: PostgresServer) -> AsyncGenerator[str]:
    if shared is not None:
        yield shared.database_url
    else:
        url = await new_database(postgres.dsn)
        yield url
        await drop_database(postgres.dsn, url)


@pytest_asyncio.fixture(loop_scope="module")
async def client(shared: Stack | None, nats: NatsServer) -> AsyncGenerator[NatsClient]:
    if shared is not None:
        yield shared.client
    else:
        connection = await _connect(nats)
        yield connection
        await close(connection)


@pytest_asyncio.fixture(loop_scope="module")
async def store(
    shared: Stack | None, nats: NatsServer, database_url: str, client: NatsClient
) -> AsyncGenerator[StoreDriver]:
    """Two stores on one database, and somebody who knows them."""
    if shared is not None:
        yield StoreDriver(client, await new_actor(database_url, f"alice-{next(_people)}"))
    else:
        async with running_stores(nats.url(), database_url):
            yield StoreDriver(client, await new_actor(database_url))


@pytest_asyncio.fixture(loop_scope="module")
async def sql(database_url: str) -> AsyncGenerator[ChatSql]:
    """Somebody who calls the functions themselves; no store runs."""
    opened = await open_chats(database_url)
    yield opened
    await opened.connection.close()


async def _connect(nats: NatsServer) -> NatsClient:
    return await connect(
        nats.url(), name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None
    )
