"""A client that attaches while a turn waits for its next attempt is told so."""

from __future__ import annotations

import pytest
from support.chat_driver import StoreDriver, assistant
from support.databases import reach_limit

from steersman_contracts import events
from steersman_contracts.chats import PendingRetry
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.steering import PAUSE_TURN, PauseTurn
from steersman_contracts.terms import LimitReached

pytestmark = pytest.mark.one_stack


async def pending(store: StoreDriver, chat_id: ChatId) -> PendingRetry | None:
    return (await store.snapshot(chat_id)).snapshot.retry


async def retrying(store: StoreDriver) -> ChatId:
    """A chat whose first attempt has failed for a passing reason."""
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.begin(await store.fence(chat.id))
    assert await pending(store, chat.id) is None
    await store.retry(await store.fence(chat.id))
    return chat.id


async def test_a_snapshot_tells_of_the_retry_as_its_event_did(store: StoreDriver) -> None:
    chat_id = await retrying(store)

    event = await store.log.until(chat_id, events.RetryScheduled)

    assert isinstance(event, events.RetryScheduled)
    assert await pending(store, chat_id) == PendingRetry(
        1, 1000, event.retrying_at, "overloaded", "busy"
    )


async def test_the_retry_outlives_what_does_not_concern_it(store: StoreDriver) -> None:
    chat_id = await retrying(store)

    await store.send(chat_id, "queued meanwhile")
    await store.acquire(chat_id)

    assert await pending(store, chat_id) is not None


async def test_the_next_attempt_ends_it(store: StoreDriver) -> None:
    chat_id = await retrying(store)
    await store.begin(await store.fence(chat_id))
    assert await pending(store, chat_id) is None

    await store.commit(await store.fence(chat_id), assistant("step"))
    assert await pending(store, chat_id) is None


async def test_every_end_of_the_step_ends_it(store: StoreDriver) -> None:
    failed, finished, edited, interrupted = [await retrying(store) for _ in range(4)]

    await store.finish_error(await store.fence(failed))
    await store.finish(await store.fence(finished), assistant("after all"))
    await store.edit(edited, (await store.messages(edited))[0].id, "other words")
    await store.interrupt(interrupted)

    for chat_id in (failed, finished, edited, interrupted):
        assert await pending(store, chat_id) is None
    await store.send(failed, "again")
    assert await pending(store, failed) is None


async def test_a_turn_that_goes_on_after_its_limit_waits_for_no_retry(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await retrying(store)
    await reach_limit(database_url, chat_id)
    reached = LimitReached("wall_s", 1, 1)

    await store.rpc.call(PAUSE_TURN, PauseTurn(await store.fence(chat_id), reached, 60))
    await store.set_limits(chat_id)

    assert await pending(store, chat_id) is None
