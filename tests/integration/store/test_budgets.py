"""Limits of turns: what counts to them, and how the agents of a chat share them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from itertools import count

import asyncpg
import pytest_asyncio
from support.agents import RUNNER, WAIT, Family, end
from support.chat_driver import StoreDriver, assistant, new_actor
from support.services import running_store
from support.waiting import until
from support.work import hints

from steersman.embedded.nats import NatsServer
from steersman_contracts import events
from steersman_contracts.chats import Chat, Role, Status, Usage
from steersman_contracts.ids import ChatId, ModelName, RunnerId
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc import agents as rpc
from steersman_contracts.rpc import attempts, steering, usage
from steersman_contracts.rpc import worker as work
from steersman_contracts.terms import LimitReached, TurnLimits
from steersman_runtime.nats_client import NatsClient

HELPER = "runner-2"
_numbers = count()


@pytest_asyncio.fixture(loop_scope="module")
async def database(database_url: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    prices = json.dumps({"prices": {"input": 1_000_000, "output": 1_000_000}})
    await connection.execute("UPDATE models SET settings = $1 WHERE name = 'demo/echo'", prices)
    yield connection
    await connection.close()


async def step(
    store: StoreDriver, chat_id: ChatId, tokens: int, runner: str = HELPER
) -> LimitReached | None:
    """A step of a model with a call and its result; what it costs is as much as its tokens."""
    call = ToolCallPart(f"call-{next(_numbers)}", "look", {})
    asked = work.NewMessage(
        Role.ASSISTANT,
        (call,),
        model=ModelName("demo/echo"),
        usage=Usage(input_tokens=tokens - 1, output_tokens=1),
        stop="tool-calls",
    )
    answered = work.NewMessage(Role.TOOL, (ToolResultPart(call.call_id, call.tool),))
    committed = await store.commit(await store.fence(chat_id, runner), asked, answered)
    return committed.chat.terms.reached


async def pause(store: StoreDriver, chat_id: ChatId, reached: LimitReached | None) -> None:
    assert reached is not None
    request = steering.PauseTurn(await store.fence(chat_id, HELPER), reached, 600)
    await store.rpc.call(steering.PAUSE_TURN, request)


def limit_of(chat: Chat) -> LimitReached | None:
    return None if chat.action is None else chat.action.limit


async def says(store: StoreDriver, chat_id: ChatId, reached: LimitReached) -> None:
    """Wait until watchers of the chat are told that it stands at a limit."""
    async with asyncio.timeout(40):
        while not any(
            isinstance(e, events.ActionRequired) and e.action.limit == reached
            for e in store.log.of(chat_id)
        ):
            await store.log.more(len(store.log.seen))


async def goes_on(store: StoreDriver, chat_id: ChatId) -> None:
    async def is_running() -> bool:
        return (await store.chat(chat_id)).status is Status.RUNNING

    await until(is_running)


async def test_the_first_limit_that_a_turn_has_reached_is_named(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    chat = await store.create("go", limits=TurnLimits(steps=3, tokens=100, cost_micros=70))
    await store.acquire(chat.id)
    assert await step(store, chat.id, 30, "runner-1") is None
    assert await step(store, chat.id, 40, "runner-1") == LimitReached("cost_micros", 70, 70)
    assert await step(store, chat.id, 30, "runner-1") == LimitReached("steps", 3, 3)
    await store.set_limits(chat.id, tokens=100, cost_micros=70)
    assert await step(store, chat.id, 1, "runner-1") == LimitReached("tokens", 100, 101)
    await store.set_limits(chat.id, wall_s=3600)
    assert await step(store, chat.id, 1, "runner-1") is None
    await database.execute(
        "UPDATE messages SET created_at = created_at - $2::interval WHERE chat_id = $1",
        chat.id,
        timedelta(seconds=3600),
    )
    reached = await step(store, chat.id, 1, "runner-1")
    assert reached is not None
    assert (reached.kind, reached.limit, reached.used >= 3600) == ("wall_s", 3600, True)

    # Another message of a person begins another turn.
    await store.set_limits(chat.id, tokens=10)
    await store.finish(await store.fence(chat.id), assistant("done"))
    await store.send(chat.id, "more")
    context = await store.acquire(chat.id)
    assert context.chat.terms.reached is None
    assert await step(store, chat.id, 11, "runner-1") == LimitReached("tokens", 10, 11)


async def test_agents_share_the_limits_of_their_chat_and_wait_until_they_are_raised(
    store: StoreDriver,
) -> None:
    family = await Family.begin(store)
    root = family.parent.id
    await store.set_limits(root, tokens=100)
    one, two = await family.spawn("s-1"), await family.spawn("s-2", detached=True)
    for agent in (one, two):
        await store.acquire(agent, HELPER)
    assert await step(store, one, 60) is None
    reached = await step(store, two, 50)
    assert reached == LimitReached("tokens", 100, 110, root)
    await family.wait(one, two)

    await pause(store, two, reached)
    assert limit_of(await store.chat(two)) == reached
    await says(store, root, LimitReached("tokens", 100, 110))
    waiting = await store.chat(root)
    assert waiting.action is not None
    assert (waiting.action.needs_client, len(waiting.action.waits)) == (True, 1)

    await store.set_limits(root, tokens=105)  # not by enough
    await says(store, root, LimitReached("tokens", 105, 110))
    assert (await store.chat(two)).status is Status.REQUIRES_ACTION
    raised = await store.set_limits(root, tokens=120)
    assert (raised.status, limit_of(raised)) == (Status.REQUIRES_ACTION, None)
    await goes_on(store, two)
    assert (await store.acquire(two, HELPER)).chat.terms.reached is None
    assert await step(store, two, 10) == LimitReached("tokens", 120, 120, root)

    # The next turn of the chat has all of its limits again, and so have agents that waited.
    await pause(store, two, LimitReached("tokens", 120, 120, root))
    await end(store, one, "done", HELPER)
    await store.interrupt(root)
    await store.send(root, "another turn")
    await goes_on(store, two)
    assert (await store.acquire(two, HELPER)).chat.terms.reached is None


async def test_who_waits_at_a_limit_goes_on_with_its_rise_whichever_came_first(
    nats: NatsServer, database_url: str, client: NatsClient
) -> None:
    # Nothing is left to the sweep, which would find it in the end.
    async with running_store(nats.url(), database_url, sweep_s=3600.0):
        store = StoreDriver(client, await new_actor(database_url))
        family = await Family.begin(store)
        root = family.parent.id
        await store.set_limits(root, tokens=10)
        one, two = await family.spawn("s-1"), await family.spawn("s-2")
        for agent in (one, two):
            await store.acquire(agent, HELPER)
        reached = [await step(store, agent, 6) for agent in (one, two)][-1]
        own = await step(store, root, 6, RUNNER)
        await pause(store, one, reached)
        await hints(client, 3)  # the agents that were spawned, and the chat

        raised = await store.set_limits(root, tokens=100)
        await goes_on(store, one)
        assert await hints(client, 1) == [one]

        # These had been told of it before, and say so only now.
        assert (raised.status, own) == (Status.RUNNING, LimitReached("tokens", 10, 18))
        for chat_id, runner, told in ((two, HELPER, reached), (root, RUNNER, own)):
            assert told is not None
            fence = await store.fence(chat_id, runner)
            late = await store.rpc.call(steering.PAUSE_TURN, steering.PauseTurn(fence, told, 600))
            assert (late.chat.status, late.released) == (Status.RUNNING, False)
            assert late.chat.terms.reached is None

        # Another turn of the chat has all of its limits again, however it begins.
        async def uses_it_up() -> None:
            await store.acquire(one, HELPER)
            await pause(store, one, await step(store, one, 100))

        async def ends() -> None:
            await store.acquire(root, RUNNER)
            await store.finish(await store.fence(root, RUNNER), assistant("done"))

        await uses_it_up()
        await store.send(root, "queued")
        await ends()  # and the next of the queue is promoted
        await goes_on(store, one)
        await ends()
        await uses_it_up()
        await store.send(root, "sent")
        await goes_on(store, one)
        await uses_it_up()
        sent = (await store.messages(root))[-1]
        await store.edit(root, sent.id, "edited")
        await goes_on(store, one)


async def test_every_chat_above_has_a_say_and_deleted_ones_leave_nothing(
    nats: NatsServer, database_url: str, client: NatsClient, database: asyncpg.Connection
) -> None:
    async with running_store(nats.url(), database_url, max_agent_depth=2):
        store = StoreDriver(client, await new_actor(database_url))
        family = await Family.begin(store)
        child = await family.spawn()
        await store.acquire(child, HELPER)
        grandchild = await family.spawn(caller=rpc.Caller(child, RunnerId(HELPER)))
        await store.acquire(grandchild, HELPER)
        await store.set_limits(family.parent.id, steps=3)
        await store.set_limits(child, steps=2)

        assert await step(store, grandchild, 5) is None
        assert await step(store, grandchild, 5) == LimitReached("steps", 2, 2, child)
        assert await step(store, child, 5) == LimitReached("steps", 2, 3)  # its own comes first
        await store.set_limits(child)
        root = family.parent.id
        assert await step(store, grandchild, 5) == LimitReached("steps", 3, 4, root)
        await store.delete(family.parent.id)
        assert await database.fetchval("SELECT count(*) FROM spending") == 0


async def test_what_many_agents_use_at_the_same_time_is_counted_to_the_last_token(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    family = await Family.begin(store, WAIT)
    agents = [await family.spawn(f"s-{number}") for number in range(24)]
    for agent in agents:
        await store.acquire(agent, HELPER)

    async def work_on(agent: ChatId, tokens: int) -> None:
        for _ in range(3):
            await step(store, agent, tokens)

    await asyncio.gather(*(work_on(agent, 10 + n) for n, agent in enumerate(agents)))

    total = 3 * sum(10 + n for n in range(len(agents)))
    sums = (
        "SELECT sum(steps)::int, sum(tokens)::int, sum(cost)::int FROM spending WHERE chat_id = $1"
    )
    found = await database.fetchrow(sums, family.parent.id)
    assert tuple(found or ()) == (3 * len(agents), total, total)
    await store.set_limits(family.parent.id, cost_micros=total)
    owned = (await store.acquire(family.parent.id, RUNNER)).chat
    assert owned.terms.reached == LimitReached("cost_micros", total, total)
    assert (await store.chat(family.parent.id)).tree_cost_micros == total


async def test_attempts_that_came_to_nothing_count_once_for_the_whole_tree(
    store: StoreDriver, database: asyncpg.Connection
) -> None:
    family = await Family.begin(store)
    root = family.parent.id
    await store.set_limits(root, tokens=100)
    agent = await family.spawn()
    version = (await store.acquire(agent, HELPER)).chat.history_version
    model, used = ModelName("demo/echo"), Usage(input_tokens=50, output_tokens=5)
    for attempt in (1, 1, 2):  # the first one is told twice: its answer was lost
        lost = attempts.CountAttempt(agent, version, attempt, "summary", model, used)
        await store.rpc.call(attempts.COUNT_ATTEMPT, lost)
    await store.log.until(agent, events.ChatUpdated)

    assert [(await store.chat(one)).tree_cost_micros for one in (agent, root)] == [110, 110]
    assert await step(store, agent, 5) == LimitReached("tokens", 100, 115, root)
    report = await store.rpc.call(usage.GET_USAGE, usage.GetUsage(store.actor, chat_id=root))
    assert (report.total.steps, report.total.cost_micros) == (1, 115)
    await store.delete(root)
    late = attempts.CountAttempt(agent, version, 3, "attempt", model, used)
    await store.rpc.call(attempts.COUNT_ATTEMPT, late)  # of a chat that is gone
    assert await database.fetchval("SELECT count(*) FROM side_usage") == 2
