"""Every (status, transition) pair: the allowed ones land where the table says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from steersman_contracts.chats import Status, Transition
from steersman_contracts.errors import StaleFence, TransitionRefused
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import chats as people
from steersman_store.transitions import TRANSITIONS
from support.chat_driver import StoreDriver, assistant

STATUSES = (Status.WAITING, Status.RUNNING, Status.INTERRUPTING, Status.ERROR)


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


DO: dict[Transition, Callable[[StoreDriver, ChatId], Awaitable[Any]]] = {
    Transition.SEND_MESSAGE: _send,
    Transition.UPDATE: _update,
    Transition.INTERRUPT: StoreDriver.interrupt,
    Transition.ACQUIRE: StoreDriver.acquire,
    Transition.ABANDON: StoreDriver.abandon,
    Transition.BEGIN_ATTEMPT: _fenced(StoreDriver.begin),
    Transition.RECORD_RETRY: _fenced(StoreDriver.retry),
    Transition.COMMIT_STEP: _fenced(StoreDriver.commit, assistant("step")),
    Transition.FINISH_TURN: _fenced(StoreDriver.finish, assistant("end")),
    Transition.FINISH_INTERRUPTION: _fenced(StoreDriver.finish_interruption),
    Transition.FINISH_ERROR: _fenced(StoreDriver.finish_error),
}


def reaches(status: Status, *, backlog: bool) -> bool:
    """An idle chat has no queue unless its turn ended with an error."""
    return not (backlog and status is Status.WAITING)


CASES = [
    (status, transition, backlog)
    for status in STATUSES
    for transition in DO
    for backlog in (False, True)
    if reaches(status, backlog=backlog)
]


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


async def test_a_refusal_names_the_state_and_the_transition(store: StoreDriver) -> None:
    chat_id = await in_status(store, Status.WAITING, backlog=False)

    with pytest.raises(TransitionRefused) as refused:
        await store.acquire(chat_id)

    assert refused.value.details == {"status": "waiting", "transition": "acquire"}
