"""Two gateways in front of two real stores."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import asyncpg
import httpx2
import pytest
from integration.gateway.driver import RunningGateways, running_gateways
from support.chat_driver import StoreDriver, new_actor

from steersman.embedded.nats import NatsServer
from steersman_contracts.ids import UserId
from steersman_gateway.auth import digest

ALICE = "token-of-alice"
BOB = "token-of-bob"


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


@pytest.fixture
async def gateway(
    nats: NatsServer, store: StoreDriver, database_url: str
) -> AsyncGenerator[RunningGateways]:
    await add_token(database_url, store.actor.user_id, ALICE)
    await add_token(database_url, (await new_actor(database_url, "bob")).user_id, BOB)
    async with running_gateways(nats.url()) as gateway:
        yield gateway


@pytest.fixture
async def alice(gateway: RunningGateways) -> AsyncGenerator[httpx2.AsyncClient]:
    """The person whom the store's driver acts for."""
    async with gateway.client(ALICE) as client:
        yield client


@pytest.fixture
async def alice_is_admin(store: StoreDriver, database_url: str) -> None:
    """Before her first request: gateways remember for a while who somebody is."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE users SET role = 'admin' WHERE id = $1", store.actor.user_id
        )
    finally:
        await connection.close()


@pytest.fixture
async def bob(gateway: RunningGateways) -> AsyncGenerator[httpx2.AsyncClient]:
    async with gateway.client(BOB) as client:
        yield client
