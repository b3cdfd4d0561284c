"""Steering: edits, the queue, actions of clients, archives, boundaries."""

from __future__ import annotations

import asyncpg
import pytest
from support.chat_driver import StoreDriver, assistant, text, words_of

from steersman_contracts import events
from steersman_contracts.chats import Role, Status
from steersman_contracts.errors import Conflict, InvalidRequest, NotFound, StaleFence
from steersman_contracts.ids import ChatId, RunnerId
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.steering import PROPOSE_PLAN, ProposePlan

pytestmark = pytest.mark.one_stack

SERVER = ToolCallPart("call-1", "read_file", {})
CLIENT = ToolCallPart("call-2", "ask_user", {"question": "which \x00 one?"})
PLAN = ToolCallPart("call-3", "propose_plan", {"plan": "do it"})
SERVER_RESULT = ToolResultPart("call-1", "read_file", (TextPart("content"),))


async def waiting_for_client(store: StoreDriver, *, expires_s: float = 300) -> ChatId:
    """A chat whose last step has one call that ran here and one that waits for the client."""
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.commit(await store.fence(chat.id), assistant(SERVER, CLIENT))
    await store.require_action(
        await store.fence(chat.id), SERVER, CLIENT, results=(SERVER_RESULT,), expires_s=expires_s
    )
    return chat.id


async def results_of(store: StoreDriver, chat_id: ChatId) -> list[tuple[str, bool]]:
    """The results in the newest tool message."""
    message = [m for m in await store.messages(chat_id) if m.role is Role.TOOL][-1]
    return [(p.call_id, p.is_error) for p in message.parts if isinstance(p, ToolResultPart)]


async def test_an_edit_replaces_the_message_and_all_that_followed(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("one"))
    await store.send(chat.id, "second")
    await store.acquire(chat.id)
    await store.commit(await store.fence(chat.id), assistant("two"))
    stale = await store.fence(chat.id)
    await store.send(chat.id, "queued")
    old = await store.messages(chat.id)

    reply = await store.edit(chat.id, old[2].id, "second, but better")

    assert reply.delivery == "started"
    assert (reply.chat.status, reply.chat.queue_size) == (Status.RUNNING, 0)
    words = [words_of(message) for message in await store.messages(chat.id)]
    assert words == ["first", "one", "second, but better"]
    with pytest.raises(StaleFence) as refused:
        await store.finish(stale, assistant("late"))
    assert refused.value.details["owned"] is False
    reset = await store.log.until(chat.id, events.HistoryReset)
    assert isinstance(reset, events.HistoryReset)
    assert reset.from_message_id == old[2].id
    tombstones = [
        m.id
        for m in await store.messages(chat.id, after_revision=chat.snapshot_version)
        if m.deleted
    ]
    assert tombstones == [old[2].id, old[3].id]


async def test_only_messages_of_people_in_this_chat_can_be_edited(store: StoreDriver) -> None:
    chat, other = await store.create("mine"), await store.create("other")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("answer"))
    answer = (await store.messages(chat.id))[-1]
    foreign = (await store.messages(other.id))[0]

    with pytest.raises(InvalidRequest):
        await store.edit(chat.id, answer.id, "x")
    with pytest.raises(NotFound):
        await store.edit(chat.id, foreign.id, "x")

    assert len(await store.messages(chat.id)) == 2


async def test_the_queue_can_be_edited_reordered_and_emptied(store: StoreDriver) -> None:
    chat = await store.create("first")
    for word in "abc":
        await store.send(chat.id, word)
    a, b, c = await store.queued_ids(chat.id)

    await store.reorder(chat.id, [c, a, b])
    await store.edit_queued(chat.id, a, "A")
    await store.delete_queued(chat.id, b)

    queue = (await store.snapshot(chat.id)).snapshot.queue
    assert [(q.id, q.parts) for q in queue] == [(c, text("c")), (a, text("A"))]
    with pytest.raises(Conflict):
        await store.reorder(chat.id, [a])
    with pytest.raises(Conflict):
        await store.reorder(chat.id, [a, a])
    with pytest.raises(NotFound):
        await store.delete_queued(chat.id, b)


async def test_promoting_during_a_turn_saves_the_partial_step_first(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    for word in "abc":
        await store.send(chat.id, word)
    last = (await store.queued_ids(chat.id))[-1]

    promoted = await store.promote_queued(chat.id, last)
    done = await store.finish_interruption(await store.fence(chat.id), assistant("partial"))

    assert promoted.status is Status.INTERRUPTING
    assert done.chat.status is Status.RUNNING
    words = [words_of(message) for message in await store.messages(chat.id)]
    assert words == ["first", "partial", "c"]


async def test_promoting_after_an_error_starts_at_once(store: StoreDriver) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.send(chat.id, "queued")
    await store.finish_error(await store.fence(chat.id))
    (queued,) = await store.queued_ids(chat.id)

    promoted = await store.promote_queued(chat.id, queued)

    assert (promoted.status, promoted.last_error) == (Status.RUNNING, None)
    assert words_of((await store.messages(chat.id))[-1]) == "queued"


async def test_the_client_answers_its_calls_and_the_turn_goes_on(store: StoreDriver) -> None:
    chat_id = await waiting_for_client(store)
    waiting = await store.chat(chat_id)

    resumed = await store.submit(chat_id, {"call-2": "the left one"})

    assert waiting.status is Status.REQUIRES_ACTION
    assert waiting.action is not None
    assert waiting.action.calls == (CLIENT,)
    assert (resumed.status, resumed.action) == (Status.RUNNING, None)
    assert await results_of(store, chat_id) == [("call-1", False), ("call-2", False)]
    required = await store.log.until(chat_id, events.ActionRequired)
    assert isinstance(required, events.ActionRequired)
    assert required.action.calls == (CLIENT,)


async def test_results_must_be_those_of_the_pending_calls(store: StoreDriver) -> None:
    chat_id = await waiting_for_client(store)

    with pytest.raises(InvalidRequest) as refused:
        await store.submit(chat_id, {"call-1": "not pending", "call-9": "unknown"})

    assert refused.value.details["missing"] == ["call-2"]
    assert refused.value.details["unknown"] == ["call-1", "call-9"]
    assert (await store.chat(chat_id)).status is Status.REQUIRES_ACTION


@pytest.mark.parametrize("way", ["interrupt", "send-interrupt", "promote", "edit"])
async def test_no_way_out_of_an_action_leaves_a_call_unanswered(
    store: StoreDriver, way: str
) -> None:
    chat_id = await waiting_for_client(store)
    first = (await store.messages(chat_id))[0]
    match way:
        case "interrupt":
            chat = await store.interrupt(chat_id)
            assert (chat.status, chat.last_outcome) == (Status.WAITING, "interrupted")
        case "send-interrupt":
            reply = await store.send(chat_id, "rather this", busy_behavior="interrupt")
            assert (reply.delivery, reply.chat.status) == ("queued", Status.RUNNING)
        case "promote":
            await store.send(chat_id, "rather this")
            (queued,) = await store.queued_ids(chat_id)
            assert (await store.promote_queued(chat_id, queued)).status is Status.RUNNING
        case _:
            await store.edit(chat_id, first.id, "rather this")

    messages = await store.messages(chat_id)
    if way == "edit":
        assert [words_of(message) for message in messages] == ["rather this"]
        return
    assert await results_of(store, chat_id) == [("call-1", False), ("call-2", True)]
    expected = ["user", "assistant", "tool"] + ["user"] * (way != "interrupt")
    assert [message.role for message in messages] == expected


async def test_an_action_that_nobody_answers_ends_the_turn(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await waiting_for_client(store)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE chats SET action_expires_at = now() - interval '1 s'")
    finally:
        await connection.close()

    await store.log.until(chat_id, events.ChatStatusChanged, outcome="action_expired")

    assert (await store.chat(chat_id)).status is Status.WAITING
    assert await results_of(store, chat_id) == [("call-1", False), ("call-2", True)]


async def test_clearing_the_context_leaves_a_boundary_that_people_see_past(
    store: StoreDriver,
) -> None:
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("one"))

    await store.clear(chat.id)

    messages = await store.messages(chat.id)
    assert [m.boundary for m in messages] == [None, None, "clear"]


async def test_archiving_and_deleting_take_descendants_along(
    store: StoreDriver, database_url: str
) -> None:
    root, child = await store.create(None), await store.create(None)
    busy = await store.create("running")
    connection = await asyncpg.connect(database_url)
    try:
        query = "UPDATE chats SET parent_id = $2 WHERE id = $1"
        await connection.execute(query, child.id, root.id)
        await store.archive(root.id)
        assert (await store.chat(child.id)).archived
        await store.archive(root.id, archived=False)
        assert not (await store.chat(child.id)).archived

        await connection.execute(query, busy.id, child.id)
        await store.acquire(busy.id)
        await store.archive(root.id)
        await store.log.until(busy.id, events.ChatStatusChanged, status=Status.INTERRUPTING)
        await store.finish_interruption(await store.fence(busy.id))
        for chat in (child, busy):
            await store.log.until(chat.id, events.ChatArchived)
    finally:
        await connection.close()

    await store.delete(root.id)

    for chat in (root, child, busy):
        await store.log.until(chat.id, events.ChatDeleted)
        with pytest.raises(NotFound):
            await store.chat(chat.id)


async def test_a_plan_goes_with_the_turn_that_proposed_it(store: StoreDriver) -> None:
    chat = await store.create("first", plan_mode=True)
    await store.acquire(chat.id)
    asked = await store.commit(await store.fence(chat.id), assistant(PLAN))
    name = f"{asked.messages[-1].id}:{PLAN.call_id}"
    proposal = ProposePlan(chat.id, RunnerId("runner-1"), name, "do it")
    await store.rpc.call(PROPOSE_PLAN, proposal)
    assert (await store.chat(chat.id)).plan is not None

    edited = await store.edit(chat.id, (await store.messages(chat.id))[0].id, "rather")

    assert (edited.chat.plan, edited.chat.plan_mode) == (None, True)
    with pytest.raises(Conflict):
        await store.decide_plan(chat.id, approved=True)
