"""Fixtures for folders whose tests may share a running stack; a conftest imports all of them.

NATS, a database and two stores take half a second of work, several times that of most tests. The
tests of a module that is marked `one_stack` share them, and everything in them is somebody's: each
test has a person, a connection and chats of its own, and what still runs at its end is deleted.
Modules that count what is there, stop stores or change what holds for all are not marked; a single
test of that kind is marked `own_stack`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from pytest_asyncio import is_async_test

from steersman.embedded.nats import NatsServer
from steersman.embedded.postgres import PostgresServer
from steersman_runtime.nats_client import NatsClient, close
from support.chat_driver import StoreDriver, new_actor
from support.connections import connected
from support.databases import drop_database, new_database
from support.services import running_stores

__all__ = ["client", "database_url", "nats", "one_stack", "share_loops", "shared", "store"]

_people = itertools.count()


def share_loops(items: list[pytest.Item], folder: Path) -> None:
    """One event loop for the tests of each module of a folder, because they may share stores."""
    marker = pytest.mark.asyncio(loop_scope="module")
    for item in items:
        if item.path.parent == folder and is_async_test(item):
            item.add_marker(marker, append=False)


@dataclass(frozen=True)
class Stack:
    """What two stores run on, and a connection to look after them."""

    nats: NatsServer
    database_url: str
    database: asyncpg.Connection[asyncpg.Record]

    async def settle(self) -> None:
        """Delete what is not of one person alone, or would have its way in the next test.

        That is chats that have not come to rest, workspaces, and providers with their models.
        """
        await self.database.execute(
            "SELECT delete_chat(owner_id, id) FROM chats top WHERE (parent_id IS NULL OR detached) "
            "AND EXISTS (SELECT FROM attached(top.id) WHERE status NOT IN ('waiting', 'error'))"
        )
        await self.database.execute("UPDATE chats SET workspace_id = NULL")
        await self.database.execute("DELETE FROM workspaces")
        await self.database.execute("DELETE FROM providers WHERE NOT preset")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_stack(postgres: PostgresServer) -> AsyncGenerator[Stack]:
    """Two stores for the tests of a module."""
    url = await new_database(postgres.dsn)
    with NatsServer() as nats:
        async with running_stores(nats.url(), url):
            database = await asyncpg.connect(url)
            yield Stack(nats, url, database)
            await database.close()
    await drop_database(postgres.dsn, url)


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Stack | None:
    """The stack of the module, if the test may share it."""
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
async def client(nats: NatsServer) -> AsyncGenerator[NatsClient]:
    """The test's own: whatever it listens to ends with it."""
    connection = await connected(nats.url())
    yield connection
    await close(connection)


@pytest_asyncio.fixture(loop_scope="module")
async def store(
    shared: Stack | None, nats: NatsServer, database_url: str, client: NatsClient
) -> AsyncGenerator[StoreDriver]:
    """Two stores on one database, and somebody who knows them."""
    if shared is not None:
        yield StoreDriver(client, await new_actor(database_url, f"alice-{next(_people)}"))
        await shared.settle()
    else:
        async with running_stores(nats.url(), database_url):
            yield StoreDriver(client, await new_actor(database_url))
