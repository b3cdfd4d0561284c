"""Summaries in the store: who may ask for one, what it puts before the model, how it is undone."""

from __future__ import annotations

import asyncpg
import pytest
from support.chat_driver import StoreDriver, assistant, summary, words_of
from support.databases import reach_limit

from steersman_contracts import events
from steersman_contracts.chats import Chat, Status, Visibility
from steersman_contracts.errors import Conflict, TransitionRefused
from steersman_contracts.ids import RunnerId
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.rpc import worker as work
from steersman_contracts.rpc.steering import PAUSE_TURN, PauseTurn
from steersman_contracts.terms import LimitReached

pytestmark = pytest.mark.one_stack

CALL = ToolCallPart("call-1", "ask", {})


async def talked(store: StoreDriver) -> Chat:
    """A chat that rests after one turn."""
    chat = await store.create("question")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("answer"))
    return await store.chat(chat.id)


async def test_an_idle_chat_runs_to_be_summarised_and_rests_again(store: StoreDriver) -> None:
    chat = await talked(store)

    assert (await store.compact(chat.id)).status is Status.RUNNING
    context = await store.acquire(chat.id, "runner-2")
    assert context.chat.compaction_requested
    fence = await store.fence(chat.id, "runner-2")
    await store.begin_compaction(fence)
    committed = await store.commit_compaction(fence, summary("so far"), assistant("shown"))

    assert not committed.chat.compaction_requested
    assert [m.boundary for m in committed.messages] == ["summary", None]
    await store.finish(await store.fence(chat.id, "runner-2"))
    assert (await store.chat(chat.id)).status is Status.WAITING


async def test_people_do_not_see_what_is_for_the_model_alone(store: StoreDriver) -> None:
    chat = await talked(store)
    await store.compact(chat.id)
    await store.acquire(chat.id)
    await store.commit_compaction(await store.fence(chat.id), summary("so far"))
    await store.log.until(chat.id, events.CompactionFinished, succeeded=True)

    assert [words_of(m) for m in await store.messages(chat.id)] == ["question", "answer"]
    created = [e for e in store.log.of(chat.id) if isinstance(e, events.MessageCreated)]
    assert [words_of(e.message) for e in created] == ["question", "answer"]
    context = await store.acquire(chat.id)
    assert [(words_of(m), m.visibility) for m in context.messages][-1] == (
        "so far",
        Visibility.MODEL,
    )


async def test_a_summary_asked_for_during_a_turn_is_written_before_the_queue_goes_on(
    store: StoreDriver,
) -> None:
    chat = await talked(store)
    await store.send(chat.id, "second")
    await store.acquire(chat.id)
    await store.send(chat.id, "queued")
    assert (await store.compact(chat.id)).status is Status.RUNNING

    ended = await store.finish(await store.fence(chat.id), assistant("done"))

    assert (ended.released, ended.chat.compaction_requested) == (False, True)
    assert [words_of(m) for m in ended.messages] == ["done"]
    await store.commit_compaction(await store.fence(chat.id), summary("so far"))
    after = await store.finish(await store.fence(chat.id))
    assert [words_of(m) for m in after.messages] == ["queued"]


async def test_an_interrupt_drops_the_wish(store: StoreDriver) -> None:
    chat = await talked(store)
    await store.compact(chat.id)
    await store.acquire(chat.id)
    await store.interrupt(chat.id)

    ended = await store.finish_interruption(await store.fence(chat.id))

    assert (ended.chat.status, ended.chat.compaction_requested) == (Status.WAITING, False)


@pytest.mark.parametrize("way", ["interrupt", "expiry"])
async def test_a_turn_that_waits_leaves_the_wish_to_a_worker_when_it_ends(
    store: StoreDriver, database_url: str, way: str
) -> None:
    chat = await talked(store)
    await store.send(chat.id, "second")
    await store.acquire(chat.id)
    await reach_limit(database_url, chat.id)
    await store.compact(chat.id)  # the worker is about to pause, and sees it too late
    request = PauseTurn(await store.fence(chat.id), LimitReached("wall_s", 1, 1), 600)
    await store.rpc.call(PAUSE_TURN, request)
    await store.send(chat.id, "queued")

    if way == "interrupt":
        await store.interrupt(chat.id)
    else:
        connection = await asyncpg.connect(database_url)
        await connection.execute("UPDATE chats SET action_expires_at = now() - interval '1 s'")
        await connection.close()
        await store.log.until(chat.id, events.ChatStatusChanged, outcome="action_expired")

    owned = (await store.acquire(chat.id, "runner-2")).chat
    assert (owned.status, owned.compaction_requested) == (Status.RUNNING, True)
    assert (await store.chat(chat.id)).queue_size == 1
    fence = await store.fence(chat.id, "runner-2")
    await store.commit_compaction(fence, summary("so far"), at_rest=True)
    after = await store.finish(await store.fence(chat.id, "runner-2"))
    assert [words_of(m) for m in after.messages] == ["queued"]


async def test_who_is_promoted_before_a_summary_is_first_in_the_queue_that_all_see(
    store: StoreDriver, database_url: str
) -> None:
    chat = await talked(store)
    await store.send(chat.id, "second")
    await store.acquire(chat.id)
    await reach_limit(database_url, chat.id)
    await store.compact(chat.id)  # the worker is about to pause, and sees it too late
    await store.pause(await store.fence(chat.id))
    for words in ("a", "b", "c"):
        await store.send(chat.id, words)
    before = await store.chat(chat.id)
    last = (await store.queued_ids(chat.id))[-1]

    after = await store.promote_queued(chat.id, last)

    assert after.status is Status.RUNNING
    assert after.queue_version == after.snapshot_version > before.queue_version
    shown = await store.log.until(chat.id, events.QueueUpdated, queue_version=after.queue_version)
    assert isinstance(shown, events.QueueUpdated)
    assert [one.id for one in shown.queue] == await store.queued_ids(chat.id)
    assert shown.queue[0].id == last


async def test_a_failed_summary_changes_nothing_but_the_wish(store: StoreDriver) -> None:
    chat = await talked(store)
    await store.compact(chat.id)
    await store.acquire(chat.id)
    fence = await store.fence(chat.id)
    await store.begin_compaction(fence)

    failed = await store.fail_compaction(fence)

    assert not failed.chat.compaction_requested
    assert failed.chat.history_version == chat.history_version
    event = await store.log.until(chat.id, events.CompactionFinished, succeeded=False)
    assert isinstance(event, events.CompactionFinished)
    assert event.error is not None
    assert event.error.message == "no summary"


async def test_a_chat_without_an_answer_has_nothing_to_summarise(store: StoreDriver) -> None:
    chat = await store.create("question")
    await store.acquire(chat.id)
    await store.finish_error(await store.fence(chat.id))

    with pytest.raises(Conflict, match="nothing to summarise"):
        await store.compact(chat.id)


@pytest.mark.parametrize("status", [Status.INTERRUPTING, Status.REQUIRES_ACTION])
async def test_a_busy_end_refuses_to_be_summarised(store: StoreDriver, status: Status) -> None:
    chat = await talked(store)
    await store.send(chat.id, "second")
    await store.acquire(chat.id)
    if status is Status.INTERRUPTING:
        await store.interrupt(chat.id)
    else:
        await store.commit(await store.fence(chat.id), assistant(CALL))
        await store.require_action(await store.fence(chat.id), CALL)

    with pytest.raises(TransitionRefused):
        await store.compact(chat.id)


async def test_the_last_summary_can_be_taken_back_until_something_follows(
    store: StoreDriver,
) -> None:
    chat = await talked(store)
    await store.compact(chat.id)
    await store.acquire(chat.id)
    await store.commit_compaction(
        await store.fence(chat.id), summary("so far"), assistant("a summary was written")
    )
    await store.finish(await store.fence(chat.id))
    assert len(await store.messages(chat.id)) == 3

    undone = await store.undo_compaction(chat.id)

    assert undone.status is Status.WAITING
    assert [words_of(m) for m in await store.messages(chat.id)] == ["question", "answer"]
    await store.send(chat.id, "second")
    context = await store.acquire(chat.id)
    assert [words_of(m) for m in context.messages] == ["question", "answer", "second"]


@pytest.mark.parametrize("what", ["nothing", "clear", "followed"])
async def test_what_is_no_fresh_summary_cannot_be_taken_back(store: StoreDriver, what: str) -> None:
    chat = await talked(store)
    if what == "clear":
        await store.clear(chat.id)
    if what == "followed":
        await store.compact(chat.id)
        await store.acquire(chat.id)
        await store.commit_compaction(await store.fence(chat.id), summary("so far"))
        await store.finish(await store.fence(chat.id), assistant("going on"))

    with pytest.raises(Conflict, match="nothing has followed"):
        await store.undo_compaction(chat.id)


async def test_a_worker_that_died_during_a_summary_leaves_the_wish_to_its_successor(
    store: StoreDriver,
) -> None:
    chat = await talked(store)
    await store.compact(chat.id)
    await store.acquire(chat.id, "runner-1")
    await store.begin_compaction(await store.fence(chat.id, "runner-1"))
    await store.abandon(chat.id, "runner-1")

    request = work.Acquire(chat.id, RunnerId("runner-2"), 60, begin=True)
    context = await store.rpc.call(work.ACQUIRE, request)

    assert (context.chat.compaction_requested, context.chat.begun) == (True, False)
    assert context.chat.attempt_started_at is None
