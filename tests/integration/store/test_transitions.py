"""Every (status, transition) pair: the allowed ones land where the table says."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from support.chat_driver import StoreDriver, assistant, summary

from steersman_contracts.chats import Status, Transition
from steersman_contracts.errors import StaleFence, TransitionRefused
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.policies import PendingApproval
from steersman_contracts.rpc import chats as people
from steersman_store.transitions import TRANSITIONS

CALL = ToolCallPart("call-1", "ask", {})


async def in_status(store: StoreDriver, status: Status, *, backlog: bool) -> ChatId:
    """A chat in a status, owned by `runner-1` where a status can have an owner."""
    chat = await store.create("first")
    await store.acquire(chat.id)
    if status is Status.ERROR and backlog:
        await store.send(chat.id, "queued")
    if status in (Status.WAITING, Status.ERROR):
        fence = await store.fence(chat.id)
        if status is Status.ERROR:
            await store.finish_error(fence)
        else:
            await store.finish(fence, assistant("done"))
        return chat.id
    if backlog:
        await store.send(chat.id, "queued")
    if status is Status.INTERRUPTING:
        await store.interrupt(chat.id)
    if status is Status.REQUIRES_ACTION:
        await store.commit(await store.fence(chat.id), assistant(CALL))
        await store.require_action(await store.fence(chat.id), CALL)
    return chat.id


async def _send(store: StoreDriver, chat_id: ChatId) -> Any:
    return await store.send(chat_id, "another")


async def _update(store: StoreDriver, chat_id: ChatId) -> Any:
    request = people.UpdateChat(store.actor, chat_id, title="another title")
    return await store.rpc.call(people.UPDATE, request)


def _fenced(call: Callable[..., Awaitable[Any]], *more: Any) -> Any:
    async def do(store: StoreDriver, chat_id: ChatId) -> Any:
        return await call(store, await store.fence(chat_id), *more)

    return do


async def _edit(store: StoreDriver, chat_id: ChatId) -> Any:
    return await store.edit(chat_id, (await store.messages(chat_id))[0].id, "edited")


async def _submit(store: StoreDriver, chat_id: ChatId) -> Any:
    return await store.submit(chat_id, {CALL.call_id: "answer"})


async def _unarchive(store: StoreDriver, chat_id: ChatId) -> Any:
    return await store.archive(chat_id, archived=False)


def _of_queue(call: Callable[..., Awaitable[Any]], *more: Any) -> Any:
    async def do(store: StoreDriver, chat_id: ChatId) -> Any:
        return await call(store, chat_id, (await store.queued_ids(chat_id))[0], *more)

    return do


async def _reorder(store: StoreDriver, chat_id: ChatId) -> Any:
    return await store.reorder(chat_id, await store.queued_ids(chat_id))


DO: dict[Transition, Callable[[StoreDriver, ChatId], Awaitable[Any]]] = {
    Transition.SEND_MESSAGE: _send,
    Transition.UPDATE: _update,
    Transition.INTERRUPT: StoreDriver.interrupt,
    Transition.EDIT_MESSAGE: _edit,
    Transition.EDIT_QUEUED: _of_queue(StoreDriver.edit_queued, "edited"),
    Transition.DELETE_QUEUED: _of_queue(StoreDriver.delete_queued),
    Transition.PROMOTE_QUEUED: _of_queue(StoreDriver.promote_queued),
    Transition.REORDER_QUEUE: _reorder,
    Transition.SUBMIT_TOOL_RESULTS: _submit,
    Transition.CLEAR_CONTEXT: StoreDriver.clear,
    Transition.ARCHIVE: StoreDriver.archive,
    Transition.ENTER_REQUIRES_ACTION: _fenced(StoreDriver.require_action, CALL),
    Transition.ACQUIRE: StoreDriver.acquire,
    Transition.ABANDON: StoreDriver.abandon,
    Transition.BEGIN_ATTEMPT: _fenced(StoreDriver.begin),
    Transition.RECORD_RETRY: _fenced(StoreDriver.retry),
    Transition.COMMIT_STEP: _fenced(StoreDriver.commit, assistant("step")),
    Transition.BEGIN_COMPACTION: _fenced(StoreDriver.begin_compaction),
    Transition.COMMIT_COMPACTION: _fenced(StoreDriver.commit_compaction, summary("so far")),
    Transition.FAIL_COMPACTION: _fenced(StoreDriver.fail_compaction),
    Transition.FINISH_TURN: _fenced(StoreDriver.finish, assistant("end")),
    Transition.FINISH_INTERRUPTION: _fenced(StoreDriver.finish_interruption),
    Transition.FINISH_ERROR: _fenced(StoreDriver.finish_error),
}


NEEDS_A_QUEUE = {
    Transition.EDIT_QUEUED,
    Transition.DELETE_QUEUED,
    Transition.PROMOTE_QUEUED,
    Transition.REORDER_QUEUE,
}


def reaches(status: Status, transition: Transition, *, backlog: bool) -> bool:
    """An idle chat has no queue unless its turn ended with an error."""
    if backlog:
        return status is not Status.WAITING
    return transition not in NEEDS_A_QUEUE


CASES = [
    (status, transition, backlog)
    for status in Status
    for transition in DO
    for backlog in (False, True)
    if reaches(status, transition, backlog=backlog)
]


async def _resolve(store: StoreDriver, chat_id: ChatId) -> Any:
    return await store.resolve(chat_id, CALL.call_id)


AFTER_AN_ANSWER: dict[Transition, Callable[[StoreDriver, ChatId], Awaitable[Any]]] = {
    Transition.RESOLVE_APPROVAL: _resolve,
    Transition.REQUEST_COMPACTION: StoreDriver.compact,
    Transition.UNDO_COMPACTION: StoreDriver.undo_compaction,
    Transition.DELETE: StoreDriver.delete,
}
"""What needs something to sum up, a summary, or a question to a person."""


async def answered(
    store: StoreDriver, status: Status, *, backlog: bool, summarised: bool
) -> ChatId:
    """The same after a turn; in `requires_action` a person is asked.

    A chat that rests ends with a summary if it is `summarised`.
    """
    chat = await store.create("first")
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("answer"))
    if status is not Status.WAITING:
        await store.send(chat.id, "second")
    elif summarised:
        await store.compact(chat.id)
    else:
        return chat.id
    await store.acquire(chat.id)
    if backlog:
        await store.send(chat.id, "queued")
    fence = await store.fence(chat.id)
    if summarised and status in (Status.WAITING, Status.ERROR):
        await store.commit_compaction(fence, summary("so far"))
        fence = await store.fence(chat.id)
    match status:
        case Status.WAITING:
            await store.finish(fence)
        case Status.ERROR:
            await store.finish_error(fence)
        case Status.INTERRUPTING:
            await store.interrupt(chat.id)
        case Status.REQUIRES_ACTION:
            await store.commit(fence, assistant(CALL))
            approval = PendingApproval(CALL.call_id, CALL.tool, {})
            await store.require_action(await store.fence(chat.id), CALL, approvals=(approval,))
        case _:
            pass
    return chat.id


def test_every_transition_of_the_table_is_tried() -> None:
    elsewhere = {
        Transition.CANCEL_REQUIRES_ACTION,  # by the clock
        Transition.RESOLVE_WAIT,  # test_agents.py
        Transition.RESUME,  # chatloop/test_steering.py
    }
    assert {transition for _, transition in TRANSITIONS} == {*DO, *AFTER_AN_ANSWER, *elsewhere}


async def everything(database_url: str, chat_id: ChatId) -> list[Any]:
    """All rows that belong to a chat."""
    connection = await asyncpg.connect(database_url)
    try:
        return [
            await connection.fetch(f"SELECT * FROM {table} WHERE {column} = $1 ORDER BY 1", chat_id)
            for table, column in (
                ("chats", "id"),
                ("messages", "chat_id"),
                ("queued_messages", "chat_id"),
                ("leases", "chat_id"),
            )
        ]
    finally:
        await connection.close()


@pytest.mark.timeout(600)  # two hundred chats
async def test_every_pair_lands_where_the_table_says_or_changes_nothing(
    store: StoreDriver, database_url: str
) -> None:
    for case in CASES:
        status, transition, backlog = case
        chat_id = await in_status(store, status, backlog=backlog)
        before = await everything(database_url, chat_id)
        after = TRANSITIONS.get((status, transition))
        if transition is Transition.ABANDON and after is None:
            await DO[transition](store, chat_id)  # nobody owns an idle chat: nothing to give back
            assert await everything(database_url, chat_id) == before, case
        elif after is None:
            with pytest.raises((TransitionRefused, StaleFence)):
                await DO[transition](store, chat_id)
            assert await everything(database_url, chat_id) == before, case
        else:
            await DO[transition](store, chat_id)
            wanted = after.with_backlog if backlog else after.status
            assert (await store.chat(chat_id)).status is wanted, case


async def test_what_needs_an_answer_lands_where_the_table_says_or_changes_nothing(
    store: StoreDriver, database_url: str
) -> None:
    for transition, do in AFTER_AN_ANSWER.items():
        for status, backlog in itertools.product(Status, (False, True)):
            if backlog and status is Status.WAITING:
                continue
            case = status, transition, backlog
            summarised = transition is Transition.UNDO_COMPACTION
            chat_id = await answered(store, status, backlog=backlog, summarised=summarised)
            before = await everything(database_url, chat_id)
            after = TRANSITIONS.get((status, transition))
            if after is None:
                with pytest.raises(TransitionRefused):
                    await do(store, chat_id)
                assert await everything(database_url, chat_id) == before, case
                continue
            await do(store, chat_id)
            if transition is Transition.DELETE:
                assert not any(await everything(database_url, chat_id)), case
            else:
                wanted = after.with_backlog if backlog else after.status
                assert (await store.chat(chat_id)).status is wanted, case


async def test_a_refusal_names_the_state_and_the_transition(store: StoreDriver) -> None:
    chat_id = await in_status(store, Status.WAITING, backlog=False)

    with pytest.raises(TransitionRefused) as refused:
        await store.acquire(chat_id)

    assert refused.value.details == {
        "status": "waiting",
        "transition": "acquire",
        "archived": False,
    }


async def test_an_archived_chat_refuses_everything_but_reading_and_coming_back(
    store: StoreDriver, database_url: str
) -> None:
    chat_id = await in_status(store, Status.ERROR, backlog=True)
    await store.archive(chat_id)
    before = await everything(database_url, chat_id)

    for transition, do in {**DO, **AFTER_AN_ANSWER}.items():
        if transition in (Transition.ARCHIVE, Transition.ABANDON, Transition.DELETE):
            continue  # already so; nobody owns it; it may go
        with pytest.raises((TransitionRefused, StaleFence)):
            await do(store, chat_id)
        assert await everything(database_url, chat_id) == before, transition

    assert (await store.chat(chat_id)).archived
    assert len(await store.messages(chat_id)) == 1
    assert not (await _unarchive(store, chat_id)).archived
    assert (await store.send(chat_id, "again")).chat.status is Status.RUNNING
