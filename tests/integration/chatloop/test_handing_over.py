"""Chats that change hands: when a chatloop is stopped, and when there are more than fit."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import msgspec
import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said
from support.services import running_chatloop, running_chatloops

from steersman.embedded.nats import NatsServer
from steersman_contracts import events
from steersman_contracts.rpc.tools import CallResult, CallTool

pytestmark = pytest.mark.one_stack

WORDS = " ".join(f"word{number}" for number in range(60))
LEASE_S = 300.0
"""Longer than any test: only who is handed a chat may take it."""


async def test_a_chatloop_that_is_stopped_ends_its_step_and_hands_over_at_the_boundary(
    store: StoreDriver,
    nats: NatsServer,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
) -> None:
    go_on = asyncio.Event()

    async def slow(_: CallTool) -> CallResult:
        await go_on.wait()
        return said("seen")

    tool_host.tools["slow"] = slow
    fakes.script("m", Script([Turn([Text("let me"), ToolCall("slow")]), Turn([Text("done")])]))
    gate = fakes.hold("m", deltas=1)
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        stack.push_async_callback(first.aclose)
        runtime = await first.enter_async_context(
            running_chatloop(nats.url(), instance="first", lease_s=LEASE_S, shutdown_timeout_s=60.0)
        )
        chat = await store.create("go", model=await models.add("anthropic", "m"))
        async with asyncio.timeout(60):
            await fakes.held("m")

        stopping = asyncio.create_task(first.aclose())
        async with asyncio.timeout(60):
            await runtime.stopping.wait()
        gate.release()
        # It ends without the calls of its step: they are the successor's.
        async with asyncio.timeout(60):
            await stopping
        assert tool_host.called.empty()
        await stack.enter_async_context(
            running_chatloop(nats.url(), instance="second", lease_s=LEASE_S)
        )
        async with asyncio.timeout(60):
            await tool_host.called.get()
        go_on.set()
        await store.at_rest(chat.id)

    assert [words_of(m) for m in await store.messages(chat.id)] == ["go", "let me", "", "done"]
    # Not one model call, and not one tool call, more than without the stop.
    assert [request.view.step_index for request in fakes.requests] == [0, 1]
    assert (tool_host.called.empty(), tool_host.cancelled.empty()) == (True, True)


async def test_at_the_end_of_its_time_it_hands_over_at_once_and_stops_no_tool(
    store: StoreDriver,
    nats: NatsServer,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
) -> None:
    go_on = asyncio.Event()

    async def slow(_: CallTool) -> CallResult:
        await go_on.wait()
        return said("seen")

    tool_host.tools["slow"] = slow
    fakes.script("speaks", Turn([Text(WORDS)]))
    fakes.script("works", Script([Turn([ToolCall("slow", {}, id="c1")]), Turn([Text("done")])]))
    fakes.hold("speaks", deltas=5)
    async with running_chatloop(
        nats.url(), instance="first", lease_s=LEASE_S, shutdown_timeout_s=0.1
    ):
        priced = await models.add("chat", "speaks", prices={"input": 1, "output": 1})
        speaks = await store.create("go", model=priced)
        works = await store.create("go", model=await models.add("chat", "works"))
        async with asyncio.timeout(60):
            await fakes.held("speaks")
            asked = await tool_host.called.get()
        await store.log.until(speaks.id, events.PartDelta)

    async with running_chatloop(nats.url(), instance="second", lease_s=LEASE_S):
        # It asks for the same call: a real host attaches it to the one that runs.
        async with asyncio.timeout(60):
            again = await tool_host.called.get()
        go_on.set()
        for chat in (speaks, works):
            await store.at_rest(chat.id)

    assert [words_of(m) for m in await store.messages(speaks.id)] == ["go", WORDS]
    # The answer that was given up is paid for as well, and its provider had not counted it yet.
    assert (await store.chat(speaks.id)).cost_unknown_steps == 1
    assert words_of((await store.messages(works.id))[-1]) == "done"
    assert tool_host.cancelled.empty()
    # Only who has stored a call knows that nobody has asked for it before.
    assert asked.era is not None
    assert (asked.first, again) == (True, msgspec.structs.replace(asked, first=False))


@pytest.mark.own_stack  # it counts the chats of each runner
async def test_chats_that_wait_for_room_have_their_turn_before_the_next_of_busy_ones(
    store: StoreDriver,
    nats: NatsServer,
    fakes: FakeProviders,
    models: ModelSetup,
    database_url: str,
) -> None:
    fakes.script("m", Script([Turn([Text("an answer")])], repeat=True))
    model = await models.add("chat", "m")

    async def asked(count: int) -> list[str]:
        async with asyncio.timeout(60):
            return [(await fakes.held("m")).view.last_user_text for _ in range(count)]

    async with running_chatloops(nats.url(), max_concurrent_turns=2):
        gate = fakes.hold("m", deltas=1, count=4)
        busy = [await store.create(f"busy {number}", model=model) for number in range(4)]
        assert sorted(await asked(4)) == [f"busy {number}" for number in range(4)]
        connection = await asyncpg.connect(database_url)
        shares = await connection.fetch("SELECT count(*) AS n FROM chats GROUP BY runner_id")
        await connection.close()
        assert [row["n"] for row in shares] == [2, 2]
        for chat in busy:
            await store.send(chat.id, "more")
            await store.send(chat.id, "and more")
        waiting = [await store.create(f"waiting {number}", model=model) for number in range(2)]

        later = fakes.hold("m", deltas=1, count=4)
        gate.release()

        assert sorted(await asked(4)) == ["more", "more", "waiting 0", "waiting 1"]
        later.release()
        for chat in (*busy, *waiting):
            assert (await store.at_rest(chat.id)).last_outcome == "completed"
