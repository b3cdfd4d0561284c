"""Many things at once to a chat and its agents: nothing is left half done, nobody waits for ever.

What is asked for at the same time may be refused, but only for reasons that the state gives: a lock
that is taken in the wrong order would show as a deadlock.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest
from support.agents import WAIT, Family, end
from support.chat_driver import StoreDriver, assistant
from support.invariants import broken, read_rows
from support.waiting import until

from steersman_contracts.chats import Role, Status
from steersman_contracts.errors import AlreadyOwned, NotFound, StaleFence, TransitionRefused
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc import worker as work

pytestmark = pytest.mark.one_stack

ROUNDS = 6
AT_ONCE = 5
REFUSALS = (AlreadyOwned, NotFound, StaleFence, TransitionRefused)

_STRAY_WAITS = """
SELECT count(*) FROM waits w JOIN chats c ON c.id = w.chat_id
    WHERE c.status <> 'requires_action' OR array_position(c.action_calls, w.call_id) IS NULL
        OR c.action_results[array_position(c.action_calls, w.call_id)] IS NOT NULL
"""
_LEFT = "SELECT (SELECT count(*) FROM waits) + (SELECT count(*) FROM cascades)"


async def calling(family: Family) -> None:
    """Bring the parent to where its model has asked to wait."""
    store, chat_id = family.store, family.parent.id
    while True:
        chat = await store.chat(chat_id)
        if chat.archived:
            await store.archive(chat_id, archived=False)
        elif chat.status is Status.REQUIRES_ACTION:
            await store.interrupt(chat_id)
        elif chat.status in (Status.WAITING, Status.ERROR):
            await store.send(chat_id, "go on")
        elif chat.status is Status.INTERRUPTING:
            await store.acquire(chat_id)
            await store.finish_interruption(await store.fence(chat_id), *await closing(family))
        else:
            break
    await store.acquire(chat_id)
    if closed := await closing(family):
        await store.commit(await store.fence(chat_id), *closed)
    committed = await store.commit(await store.fence(chat_id), assistant(WAIT))
    family.message_id = committed.messages[-1].id


async def closing(family: Family) -> list[work.NewMessage]:
    """What a worker closes the call with that its turn has left open."""
    last = (await family.store.messages(family.parent.id))[-1]
    if not any(isinstance(part, ToolCallPart) for part in last.parts):
        return []
    return [work.NewMessage(Role.TOOL, (ToolResultPart(WAIT.call_id, WAIT.tool),))]


def things(
    family: Family, agents: Sequence[ChatId], edits: int
) -> list[Callable[[], Awaitable[object]]]:
    store, chat_id = family.store, family.parent.id
    one, two = agents
    return [
        lambda: store.interrupt(chat_id),
        lambda: store.send(chat_id, "now", busy_behavior="interrupt"),
        lambda: store.send(chat_id, "later"),
        lambda: store.edit(chat_id, edits, "rather"),
        lambda: store.archive(chat_id),
        lambda: end(store, one, "report"),
        lambda: end(store, two, "report", "runner-3"),
        lambda: store.interrupt(one),
        lambda: store.send(two, "more", busy_behavior="interrupt"),
        lambda: store.archive(one),
        lambda: store.delete(two),
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_at_once_a_family_stays_whole(
    store: StoreDriver, database_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    family = await Family.begin(store)
    database = await asyncpg.connect(database_url)
    try:
        for number in range(ROUNDS):
            if number:
                await calling(family)
            agents = [await family.spawn(f"{number}-{name}") for name in ("one", "two")]
            last = [m.id for m in await store.messages(family.parent.id) if m.role == "user"][-1]
            wait = work.AgentWait(WAIT.call_id, tuple(agents), 600, any_of=chance.random() < 0.5)
            request = work.EnterRequiresAction(
                await store.fence(family.parent.id), (WAIT,), waits=(wait,)
            )
            some = chance.sample(things(family, agents, last), AT_ONCE)
            asked = [store.rpc.call(work.ENTER_REQUIRES_ACTION, request), *(one() for one in some)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, REFUSALS):
                    raise answer
            assert broken(await read_rows(database, family.parent.id)) == []
            assert await database.fetchval(_STRAY_WAITS) == 0
        await calling(family)
        await store.finish_error(await store.fence(family.parent.id), *await closing(family))
        await until(lambda: _at_work(store, database))
    finally:
        await database.close()


async def _at_work(store: StoreDriver, database: asyncpg.Connection) -> bool:
    """Play the worker of whoever still runs, until nothing is left to bring to anybody."""
    rows = await database.fetch(
        "SELECT id::text FROM chats WHERE parent_id IS NOT NULL "
        "AND status IN ('running', 'interrupting')"
    )
    for row in rows:
        chat_id = ChatId(row["id"])
        try:
            status = (await store.acquire(chat_id, "runner-4")).chat.status
            fence = await store.fence(chat_id, "runner-4")
            if status is Status.INTERRUPTING:
                await store.finish_interruption(fence)
            else:
                await store.finish(fence, assistant("report"))
        except AlreadyOwned:
            await database.execute("DELETE FROM leases WHERE chat_id = $1", row["id"])
        except REFUSALS:
            continue  # it changed meanwhile: seen again
    return not rows and await database.fetchval(_LEFT) == 0
