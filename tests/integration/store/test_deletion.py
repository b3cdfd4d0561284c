"""What a deleted chat leaves: its end for those who watch, and after a while nothing at all."""

from __future__ import annotations

from functools import partial

import asyncpg
import msgspec
from support.chat_driver import StoreDriver, assistant, new_actor
from support.services import running_stores
from support.waiting import until

from steersman.embedded.nats import NatsServer
from steersman_contracts import events, subjects
from steersman_contracts.deltas import TextDelta
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.rpc import Actor
from steersman_runtime.jetstream import Publisher, StoredMessage, read_subject
from steersman_runtime.nats_client import NatsClient, encode_headers, header

PLANTED = "only-ever-said-here"
LISTED_OF_KEPT = ("chat.created", "chat.archived", "chat.unarchived")


async def logged(client: NatsClient, chat_id: ChatId) -> list[str]:
    """The names of the events of a chat that are in the log."""
    found: list[StoredMessage] = []
    await read_subject(
        client,
        subjects.EVENT_STREAM,
        subjects.chat_events(chat_id),
        on_message=found.append,
    )
    names = (header(message.headers, events.EVENT_HEADER.encode()) for message in found)
    return [(name or b"").decode() for name in names]


async def feed_of(client: NatsClient, actor: Actor) -> list[StoredMessage]:
    """What the log has for the owner."""
    found: list[StoredMessage] = []
    await read_subject(
        client,
        subjects.EVENT_STREAM,
        subjects.my_events(actor.user_id),
        on_message=found.append,
    )
    return found


async def until_logged(client: NatsClient, chat_id: ChatId, *names: str) -> None:
    """Wait until the log has these events of a chat and no others."""

    async def found() -> bool:
        return await logged(client, chat_id) == list(names)

    await until(found)


async def time_passes(database_url: str, *chat_ids: ChatId) -> None:
    """What is kept of deleted chats for a while has been kept long enough."""
    connection = await asyncpg.connect(database_url)
    query = "UPDATE purges SET due_at = now() - interval '1 second' WHERE chat_id = $1"

    async def passed(chat_id: ChatId) -> bool:
        return await connection.execute(query, chat_id) == "UPDATE 1"

    try:
        for chat_id in chat_ids:  # noted once the log has confirmed the end of the chat
            await until(partial(passed, chat_id))
    finally:
        await connection.close()


async def family(database_url: str, store: StoreDriver) -> tuple[ChatId, ChatId]:
    """A chat and its child, each with something said."""
    parent, child = await store.create("first"), await store.create("second")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE chats SET parent_id = $1 WHERE id = $2", parent.id, child.id
        )
    finally:
        await connection.close()
    for chat_id in (parent.id, child.id):
        await store.acquire(chat_id)
        await store.finish(await store.fence(chat_id), assistant("answer"))
        await store.log.until(chat_id, events.ChatStatusChanged, outcome="completed")
    return parent.id, child.id


async def test_the_log_keeps_the_end_of_a_chat_and_of_its_descendants_and_nothing_else(
    store: StoreDriver, client: NatsClient, database_url: str
) -> None:
    parent, child = await family(database_url, store)
    assert "message.created" in await logged(client, parent)

    await store.delete(parent)

    for chat_id in (parent, child):
        await store.log.until(chat_id, events.ChatDeleted)
        await until_logged(client, chat_id, "chat.deleted")


async def test_the_owners_feed_keeps_nothing_of_it_but_its_end(
    store: StoreDriver, client: NatsClient
) -> None:
    call = ToolCallPart("call-1", "ask", {"question": PLANTED})
    kept = await store.create(None, title="stays")
    gone = await store.create("goes", title=PLANTED, system_prompt=PLANTED)
    await store.acquire(gone.id)
    await store.commit(await store.fence(gone.id), assistant(call))
    await store.require_action(await store.fence(gone.id), call)
    await store.interrupt(gone.id)
    await store.archive(kept.id)

    async def told(count: int) -> bool:
        return str(await feed_of(client, store.actor)).count(PLANTED) >= count

    await until(partial(told, 3))  # of the creation twice, and of the action
    last = (await store.archive(kept.id, archived=False)).snapshot_version
    await store.log.until(kept.id, events.ChatUnarchived, snapshot_version=last)

    await store.delete(gone.id)

    async def only_the_end_is_left() -> bool:
        left = [m for m in await feed_of(client, store.actor) if gone.id in str(m.payload)]
        return [header(m.headers, events.EVENT_HEADER.encode()) for m in left] == [b"chat.deleted"]

    await until(only_the_end_is_left)
    assert PLANTED not in str(await feed_of(client, store.actor))
    # Nothing of other chats has gone with it.
    others = [m for m in await feed_of(client, store.actor) if kept.id in str(m.payload)]
    assert len(others) == len(LISTED_OF_KEPT)


async def test_after_a_while_the_log_knows_nothing_of_it_whatever_a_late_worker_streamed(
    nats: NatsServer, client: NatsClient, database_url: str
) -> None:
    async with running_stores(nats.url(), database_url):
        store = StoreDriver(client, await new_actor(database_url))
        parent, child = await family(database_url, store)

        await store.delete(parent)
        await store.log.until(child, events.ChatDeleted)
        late = events.PartDelta(
            chat_id=child, history_version=1, attempt=1, seq=1, deltas=(TextDelta(0, "late"),)
        )
        await Publisher(client).publish(
            subjects.chat_events(child),
            msgspec.json.encode(late),
            headers=encode_headers({events.EVENT_HEADER: late.name}),
        )

        await time_passes(database_url, parent, child)

        for chat_id in (parent, child):
            await until_logged(client, chat_id)


async def test_a_chat_that_is_deleted_while_nats_is_away_leaves_the_log_afterwards(
    nats: NatsServer, client: NatsClient, database_url: str
) -> None:
    async with running_stores(nats.url(), database_url):
        store = StoreDriver(client, await new_actor(database_url))
        parent, child = await family(database_url, store)
        nats.stop()
        connection = await asyncpg.connect(database_url)
        try:
            # What the store does with the request, were there a way to send it.
            await connection.execute("SELECT delete_chat($1, $2)", store.actor.user_id, parent)
        finally:
            await connection.close()

        await nats.start_async()

        for chat_id in (parent, child):
            await store.log.until(chat_id, events.ChatDeleted)
        await time_passes(database_url, parent, child)
        for chat_id in (parent, child):
            await until_logged(client, chat_id)
