"""Two gateways in front of two real stores: shared where those are, see `support.stacks`."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from integration.gateway.driver import RunningGateways, running_gateways
from support.chat_driver import StoreDriver, new_actor
from support.stacks import (
    Stack,
    client,
    database_url,
    nats,
    one_stack,
    share_loops,
    shared,
    store,
)

from steersman.embedded.nats import NatsServer
from steersman_contracts.ids import UserId
from steersman_gateway.auth import digest

__all__ = ["client", "database_url", "nats", "one_stack", "shared", "store"]

ALICE = "token-of-alice"
BOB = "token-of-bob"
HERE = Path(__file__).parent
_tokens = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    share_loops(items, HERE)


async def add_token(database_url: str, user_id: UserId, token: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO tokens (digest, user_id, name) VALUES ($1, $2, 'test')",
            digest(token),
            user_id,
        )
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_gateway(one_stack: Stack) -> AsyncGenerator[RunningGateways]:
    """Two of them for the tests of a module."""
    async with running_gateways(one_stack.nats.url()) as gateway:
        yield gateway


@pytest.fixture
def shared_gateway(shared: Stack | None, request: pytest.FixtureRequest) -> RunningGateways | None:
    gateway: RunningGateways | None = shared and request.getfixturevalue("one_gateway")
    return gateway


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(
    shared_gateway: RunningGateways | None, nats: NatsServer, store: StoreDriver
) -> AsyncGenerator[RunningGateways]:
    del store  # it only has to be there
    if shared_gateway is not None:
        yield shared_gateway
    else:
        async with running_gateways(nats.url()) as gateway:
            yield gateway


@pytest_asyncio.fixture(loop_scope="module")
async def alice_token(store: StoreDriver, database_url: str) -> str:
    """New for each test: gateways remember for a while whose it is."""
    token = f"{ALICE}-{next(_tokens)}"
    await add_token(database_url, store.actor.user_id, token)
    return token


@pytest_asyncio.fixture(loop_scope="module")
async def alice(gateway: RunningGateways, alice_token: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """The person whom the store's driver acts for."""
    async with gateway.client(alice_token) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def alice_is_admin(store: StoreDriver, database_url: str) -> None:
    """Before her first request: gateways remember for a while who somebody is."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE users SET role = 'admin' WHERE id = $1", store.actor.user_id
        )
    finally:
        await connection.close()


@pytest_asyncio.fixture(loop_scope="module")
async def bob(gateway: RunningGateways, database_url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    number = next(_tokens)
    actor, token = await new_actor(database_url, f"bob-{number}"), f"{BOB}-{number}"
    await add_token(database_url, actor.user_id, token)
    async with gateway.client(token) as client:
        yield client
