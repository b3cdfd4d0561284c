"""What changes how a chat looks in a list reaches its owner's feed, once and in order."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest
from support.chat_driver import StoreDriver, assistant, new_actor

from steersman_contracts import subjects
from steersman_contracts.errors import TransitionRefused
from steersman_contracts.events import EVENT_HEADER, ChatStatusChanged, ChatUpdated
from steersman_contracts.feed import LISTED_NAMES
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import chats as people
from steersman_runtime.jetstream import StoredMessage, read_subject
from steersman_runtime.nats_client import NatsClient, header

pytestmark = pytest.mark.one_stack


async def published(client: NatsClient, subject: str) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    await read_subject(client, subjects.EVENT_STREAM, subject, on_message=found.append)
    return found


def value(message: StoredMessage, name: str) -> str:
    return (header(message.headers, name.encode()) or b"").decode()


def name_of(message: StoredMessage) -> str:
    return value(message, EVENT_HEADER)


async def feed_until(client: NatsClient, actor: Actor, last: str) -> list[StoredMessage]:
    """The feed of a person, once it ends with an event of this name."""
    async with asyncio.timeout(60):
        while True:
            found = await published(client, subjects.my_events(actor.user_id))
            if found and name_of(found[-1]) == last:
                return found
            await asyncio.sleep(0.02)


async def delete(store: StoreDriver, chat_id: ChatId) -> None:
    await store.rpc.call(people.DELETE, people.DeleteChat(store.actor, chat_id))


async def archive(store: StoreDriver, chat_id: ChatId, *, archived: bool = True) -> None:
    await store.rpc.call(people.ARCHIVE, people.ArchiveChat(store.actor, chat_id, archived))


async def pin(store: StoreDriver, chat_id: ChatId, position: int | None) -> int | None:
    request = people.PinChat(store.actor, chat_id, position)
    return (await store.rpc.call(people.PIN, request)).chat.pin_position


async def pins(store: StoreDriver) -> dict[str, int | None]:
    request = people.ListChats(store.actor, archived=None, pinned=True)
    page = await store.rpc.call(people.LIST, request)
    return {chat.title: chat.pin_position for chat in page.chats}


async def test_the_owners_feed_has_what_the_chats_have_and_nothing_that_streams(
    store: StoreDriver, client: NatsClient, database_url: str
) -> None:
    stranger = StoreDriver(client, await new_actor(database_url, "bob"))
    await stranger.create("not hers")
    chat = await store.create("one")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("answer"))
    await archive(store, chat.id)
    await archive(store, chat.id, archived=False)
    feed = await feed_until(client, store.actor, "chat.unarchived")
    in_chat = await published(client, subjects.chat_events(chat.id))

    expected = [m for m in in_chat if name_of(m) in LISTED_NAMES]
    assert len(expected) < len(in_chat)
    assert [m.payload for m in feed] == [m.payload for m in expected]
    assert [name_of(m) for m in feed] == [
        "chat.created",
        "chat.status",
        "chat.archived",
        "chat.unarchived",
    ]
    for copy, original in zip(feed, expected, strict=True):
        assert value(copy, "ce-id") == value(original, "ce-id")
        assert value(copy, "ce-source") == f"/users/{store.actor.user_id}"
        assert value(original, "ce-source") == f"/chats/{chat.id}"
        assert value(copy, "Nats-Msg-Id") != value(original, "Nats-Msg-Id")

    other = await store.create(None)
    await delete(store, chat.id)
    feed = await feed_until(client, store.actor, "chat.deleted")
    chats = {msgspec.json.decode(m.payload)["chat_id"] for m in feed}
    assert chats == {chat.id, other.id}


async def test_a_status_says_what_a_list_shows(store: StoreDriver) -> None:
    chat = await store.create("one")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("answer"))

    ended = await store.log.until(chat.id, ChatStatusChanged, outcome="completed")

    assert isinstance(ended, ChatStatusChanged)
    assert ended.has_unread is True
    assert ended.updated_at == (await store.chat(chat.id)).updated_at


async def test_an_event_from_before_the_feed_is_published_to_its_chat_alone(
    store: StoreDriver, client: NatsClient, database_url: str
) -> None:
    chat = await store.create("one")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO outbox (chat_id, part, event, body) VALUES ($1, $2, 'chat.archived', $3)",
            chat.id,
            subjects.partition(chat.id),
            f'{{"chat_id": "{chat.id}", "snapshot_version": 2}}',
        )
    finally:
        await connection.close()
    await archive(store, (await store.create(None)).id)
    await feed_until(client, store.actor, "chat.archived")

    names = [name_of(m) for m in await published(client, subjects.chat_events(chat.id))]
    feed = await published(client, subjects.my_events(store.actor.user_id))
    assert names[-1] == "chat.archived"
    assert sum(name_of(m) == "chat.archived" for m in feed) == 1


async def test_every_chat_that_a_pin_moves_is_announced(store: StoreDriver) -> None:
    chats = {name: (await store.create(None, title=name)).id for name in "abc"}
    for name in "abc":
        await pin(store, chats[name], 99)
    # The log is read behind the store: count only once all that it already said is in.
    placed = await store.chat(chats["b"])
    await store.log.until(
        chats["b"], ChatUpdated, chat=placed, snapshot_version=placed.snapshot_version
    )
    seen = len(store.log.of(chats["b"]))

    assert await pin(store, chats["c"], 1) == 1

    for name, position in (("a", 2), ("b", 3), ("c", 1)):
        chat = await store.chat(chats[name])
        assert chat.pin_position == position
        await store.log.until(
            chats[name], ChatUpdated, chat=chat, snapshot_version=chat.snapshot_version
        )
    assert len(store.log.of(chats["b"])) == seen + 1
    assert await pin(store, chats["c"], 1) == 1
    assert (await store.chat(chats["c"])).snapshot_version == chat.snapshot_version


@pytest.mark.parametrize("put_away", [archive, delete])
async def test_pins_close_the_gap_when_a_chat_is_put_away(
    store: StoreDriver, put_away: Any
) -> None:
    chats = {name: await store.create(None, title=name) for name in "abc"}
    for chat in chats.values():
        await pin(store, chat.id, 99)

    await put_away(store, chats["a"].id)

    assert await pins(store) == {"b": 1, "c": 2}
    after = await store.chat(chats["c"].id)
    await store.log.until(after.id, ChatUpdated, chat=after)


async def test_what_is_archived_cannot_be_pinned(store: StoreDriver) -> None:
    chat = await store.create(None)
    await archive(store, chat.id)

    with pytest.raises(TransitionRefused):
        await pin(store, chat.id, 1)
    assert await pin(store, chat.id, None) is None


async def test_pins_that_change_at_once_stay_dense(store: StoreDriver) -> None:
    chats = [await store.create(None) for _ in range(6)]
    for chat in chats:
        await pin(store, chat.id, 1)

    await asyncio.gather(
        *(pin(store, chat.id, place % 3 + 1) for place, chat in enumerate(chats[:4])),
        *(
            put_away(store, chat.id)
            for put_away, chat in zip((archive, delete), chats[4:], strict=True)
        ),
    )

    page = await store.rpc.call(people.LIST, people.ListChats(store.actor, pinned=True))
    assert sorted(chat.pin_position or 0 for chat in page.chats) == [1, 2, 3, 4]


async def test_reading_again_what_was_read_changes_nothing(store: StoreDriver) -> None:
    chat = await store.create("one")
    request = people.MarkRead(store.actor, chat.id)
    once = (await store.rpc.call(people.MARK_READ, request)).chat

    assert (await store.rpc.call(people.MARK_READ, request)).chat == once


async def test_a_page_may_end_among_messages_of_one_revision(store: StoreDriver) -> None:
    chat = await store.create("one")
    for number in range(3):
        await store.acquire(chat.id)
        await store.finish(await store.fence(chat.id), assistant(f"answer {number}"))
        await store.send(chat.id, f"question {number}")
    first = (await store.messages(chat.id))[0]
    edit = people.EditMessage(store.actor, chat.id, first.id, first.parts)
    await store.rpc.call(people.EDIT_MESSAGE, edit)

    seen: list[tuple[int, int]] = []
    revision, after_id = chat.snapshot_version, None
    while True:
        page = await store.rpc.call(
            people.LIST_MESSAGES,
            people.ListMessages(
                store.actor, chat.id, 2, after_revision=revision, after_id=after_id
            ),
        )
        seen += [(message.revision, message.id) for message in page.messages]
        if not page.has_more:
            break
        revision, after_id = seen[-1][0], page.messages[-1].id

    assert len({revision for revision, _ in seen}) == 1  # all in one transition
    assert len(seen) == len(set(seen)) == 8
