"""The clock of the store goes on, whatever is wrong with one chat, or with NATS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import msgspec
from support.agents import Family, end
from support.chat_driver import StoreDriver, new_actor
from support.connections import connected
from support.services import running_stores
from support.work import hints

from steersman.embedded.nats import NatsServer
from steersman_contracts import subjects
from steersman_contracts.chats import Status
from steersman_runtime.jetstream import ensure_stream, purge_subject, request
from steersman_runtime.nats_client import NatsClient, close


async def test_what_cannot_be_done_for_one_chat_keeps_no_other_from_its_worker(
    store: StoreDriver, client: NatsClient, database_url: str
) -> None:
    family = await Family.begin(store)
    agent = await family.spawn()
    await end(store, agent, "a report")
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        'UPDATE messages SET content = \'[{"type":"hologram"}]\' '
        "WHERE chat_id = $1 AND role = 'assistant'",
        agent,
    )
    # Its agent is done, and nobody can read what that said.
    assert (await family.wait(agent)).status is Status.REQUIRES_ACTION
    lost = await store.create("hello")
    await purge_subject(client, subjects.WORK_STREAM, subjects.WORK_SUBJECTS)

    assert await hints(client, 1) == [lost.id]

    # The action has an end of its own.
    await connection.execute(
        "UPDATE chats SET action_expires_at = now() WHERE id = $1", family.parent.id
    )
    await connection.close()
    rested = await store.at_rest(family.parent.id)
    assert (rested.status, rested.last_outcome) == (Status.WAITING, "action_expired")


async def test_streams_that_cannot_be_made_at_once_are_made_later(
    tmp_path: Path, database_url: str
) -> None:
    with NatsServer(tmp_path / "nats") as nats:
        async with running_stores(nats.url(), database_url):
            client = await connected(nats.url())
            store = StoreDriver(client, await new_actor(database_url))
            work = subjects.WORK_STREAM
            await request(client, f"$JS.API.STREAM.DELETE.{work}", b"")
            # Something is in the way when NATS is back: here, another stream of these subjects.
            await ensure_stream(client, {"name": "OTHER", "subjects": [subjects.WORK_SUBJECTS]})
            refused = asyncio.Event()

            def on_second_try(_: bytes, __: bytes, ___: bytes, ____: bytes) -> None:
                refused.set()

            client.listen(f"$JS.API.STREAM.UPDATE.{work}", on_second_try)
            await asyncio.to_thread(nats.stop)
            await asyncio.to_thread(nats.start)
            async with asyncio.timeout(60):
                await refused.wait()
            _, told = await request(client, "$JS.API.STREAM.DELETE.OTHER", b"")
            assert msgspec.json.decode(told)["success"]

            chat = await store.create("hello")

            assert await hints(client, 1) == [chat.id]
            await close(client)
