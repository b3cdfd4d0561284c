"""A queued message that asks for another model or effort changes the chat's once promoted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from support.chat_driver import StoreDriver, assistant

from steersman_contracts import events
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.rpc import chats as people

pytestmark = pytest.mark.one_stack

CALL = ToolCallPart("call-1", "ask", {})


async def by_the_end_of_the_turn(store: StoreDriver, chat_id: ChatId) -> None:
    done = await store.finish(await store.fence(chat_id), assistant("one"))
    assert (done.chat.model.name, done.chat.effort) == ("demo/count", "high")


async def by_an_interrupt(store: StoreDriver, chat_id: ChatId) -> None:
    await store.interrupt(chat_id)
    await store.finish_interruption(await store.fence(chat_id))


async def by_an_interrupt_of_an_action(store: StoreDriver, chat_id: ChatId) -> None:
    await store.commit(await store.fence(chat_id), assistant(CALL))
    await store.require_action(await store.fence(chat_id), CALL)
    assert (await store.interrupt(chat_id)).model == "demo/count"


async def by_a_person_after_an_error(store: StoreDriver, chat_id: ChatId) -> None:
    await store.finish_error(await store.fence(chat_id))
    await store.promote_queued(chat_id, (await store.queued_ids(chat_id))[0])


async def by_another_message_after_an_error(store: StoreDriver, chat_id: ChatId) -> None:
    await store.finish_error(await store.fence(chat_id))
    assert (await store.send(chat_id, "third")).chat.model == "demo/count"


@pytest.mark.parametrize(
    "promote",
    [
        by_the_end_of_the_turn,
        by_an_interrupt,
        by_an_interrupt_of_an_action,
        by_a_person_after_an_error,
        by_another_message_after_an_error,
    ],
)
async def test_the_change_of_the_model_is_announced_with_the_promotion(
    store: StoreDriver, promote: Callable[[StoreDriver, ChatId], Awaitable[None]]
) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.send(chat.id, "second", model="demo/count", effort="high")
    before = await store.chat(chat.id)

    await promote(store, chat.id)

    after = await store.chat(chat.id)
    assert (before.model, after.model) == ("demo/echo", "demo/count")
    assert (before.effort, after.effort) == (None, "high")
    last = await store.log.until(
        chat.id, events.QueueUpdated, snapshot_version=after.snapshot_version
    )
    assert isinstance(last, events.QueueUpdated)
    (updated,) = [e for e in store.log.of(chat.id) if isinstance(e, events.ChatUpdated)]
    assert updated.snapshot_version == after.snapshot_version
    assert (updated.chat.model, updated.chat.effort) == ("demo/count", "high")


async def test_a_queued_message_with_the_chats_own_model_announces_nothing(
    store: StoreDriver,
) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.send(chat.id, "second", model="demo/echo")

    await store.finish(await store.fence(chat.id), assistant("one"))
    await store.finish(await store.fence(chat.id), assistant("two"))

    ended = await store.chat(chat.id)
    await store.log.until(
        chat.id, events.ChatStatusChanged, snapshot_version=ended.snapshot_version
    )
    assert not [e for e in store.log.of(chat.id) if isinstance(e, events.ChatUpdated)]


async def test_a_chat_keeps_the_effort_that_was_asked_for_last(store: StoreDriver) -> None:
    chat = await store.create("first", effort="low")
    assert chat.effort == "low"
    owned = await store.acquire(chat.id)
    assert owned.chat.effort == "low"
    await store.finish(await store.fence(chat.id), assistant("one"))

    assert (await store.send(chat.id, "second")).chat.effort == "low"
    owned = await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("two"))
    assert (await store.send(chat.id, "third", effort="max")).chat.effort == "max"
    owned = await store.acquire(chat.id)
    assert owned.chat.effort == "max"
    (updated,) = [e for e in store.log.of(chat.id) if isinstance(e, events.ChatUpdated)] or [
        await store.log.until(chat.id, events.ChatUpdated)
    ]
    assert isinstance(updated, events.ChatUpdated)
    assert updated.chat.effort == "max"

    change = people.UpdateChat(store.actor, chat.id, effort=None)
    assert (await store.rpc.call(people.UPDATE, change)).chat.effort is None
    change = people.UpdateChat(store.actor, chat.id, title="Another")
    assert (await store.rpc.call(people.UPDATE, change)).chat.effort is None
