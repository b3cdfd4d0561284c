"""A message may say what form its turn's answer has; other turns have their chat's."""

from __future__ import annotations

from typing import Any, Final

import pytest
from support.chat_driver import StoreDriver

from steersman_contracts.chats import Role
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc import worker as work

pytestmark = pytest.mark.one_stack


def form(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "integer"}}}


OF_CHAT: Final = form("height")
OF_TURN: Final = form("length")
OTHER: Final = form("width")
DONE: Final = work.NewMessage(Role.ASSISTANT, (TextPart("done"),), model=None)


async def wanted(store: StoreDriver, chat_id: ChatId) -> object:
    """What a worker that takes the chat now holds the answer against."""
    context = await store.acquire(chat_id)
    return context.chat.terms.response_schema


async def test_the_schema_of_a_message_is_that_of_one_turn(store: StoreDriver) -> None:
    chat = await store.create(None, response_schema=OF_CHAT)
    for schema, expected in [(OF_TURN, OF_TURN), ({}, None), (None, OF_CHAT)]:
        await store.send(chat.id, "measure", response_schema=schema)
        assert await wanted(store, chat.id) == expected
        await store.finish(await store.fence(chat.id), DONE)
    assert (await store.chat(chat.id)).response_schema == OF_CHAT


async def test_a_queued_message_keeps_its_schema_until_it_is_its_turn(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    for words, schema in [("second", OF_TURN), ("third", OTHER), ("fourth", None)]:
        await store.send(chat.id, words, response_schema=schema)
    for expected in (OF_TURN, OTHER, None):
        committed = await store.finish(await store.fence(chat.id), DONE)
        assert committed.chat.terms.response_schema == expected


async def test_a_queued_message_has_another_schema_once_an_edit_names_one(
    store: StoreDriver,
) -> None:
    chat = await store.create("first", response_schema=OF_CHAT)
    await store.acquire(chat.id)
    for words in ("second", "third", "fourth", "fifth"):
        await store.send(chat.id, words, response_schema=OF_TURN)
    kept, other, free, chats = await store.queued_ids(chat.id)
    await store.edit_queued(chat.id, kept, "2")
    await store.edit_queued(chat.id, other, "3", response_schema=OTHER)
    await store.edit_queued(chat.id, free, "4", response_schema={})
    await store.edit_queued(chat.id, chats, "5", response_schema=None)
    with pytest.raises(InvalidRequest):
        await store.edit_queued(chat.id, kept, "2", response_schema={"type": "array"})
    for expected in (OF_TURN, OTHER, None, OF_CHAT):
        committed = await store.finish(await store.fence(chat.id), DONE)
        assert committed.chat.terms.response_schema == expected


async def test_a_backlog_behind_an_error_keeps_its_schemas(store: StoreDriver) -> None:
    chat = await store.create("first", response_schema=OF_CHAT)
    await store.acquire(chat.id)
    await store.send(chat.id, "second", response_schema=OF_TURN)
    await store.finish_error(await store.fence(chat.id))
    await store.send(chat.id, "third", response_schema=OTHER)
    assert await wanted(store, chat.id) == OF_TURN
    committed = await store.finish(await store.fence(chat.id), DONE)
    assert committed.chat.terms.response_schema == OTHER


async def test_an_edited_message_has_the_schema_that_the_edit_names(store: StoreDriver) -> None:
    chat = await store.create(None, response_schema=OF_CHAT)
    sent = await store.send(chat.id, "measure", response_schema=OF_TURN)
    assert sent.message is not None
    edited = await store.edit(chat.id, sent.message.id, "measure again", response_schema=OTHER)
    assert await wanted(store, chat.id) == OTHER
    assert edited.message is not None
    await store.edit(chat.id, edited.message.id, "and again")
    assert await wanted(store, chat.id) == OF_CHAT


async def test_a_schema_that_cannot_be_used_is_refused_with_the_message(store: StoreDriver) -> None:
    chat = await store.create("first")
    (first,) = await store.messages(chat.id)
    for attempt in (
        store.send(chat.id, "second", response_schema={"type": "array"}),
        store.edit(chat.id, first.id, "again", response_schema={"type": "array"}),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await attempt
        assert refused.value.details["field"] == "response_schema"
    assert len(await store.messages(chat.id)) == 1
