"""Turns that end at an awkward moment, or with more than can be stored, still end whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest
import pytest_asyncio
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said
from support.invariants import broken, read_rows
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_contracts import events
from steersman_contracts.chats import ClientTool, Status
from steersman_contracts.rpc.tools import CallResult, CallTool

pytestmark = pytest.mark.one_stack


@pytest_asyncio.fixture(loop_scope="module")
async def chatloop(nats: NatsServer, store: StoreDriver) -> AsyncGenerator[None]:
    """One, whose lease outlives the test: nobody else takes over."""
    assert store.actor
    async with running_chatloop(nats.url(), lease_s=60.0):
        yield


@pytest_asyncio.fixture(loop_scope="module")
async def database(database_url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.mark.usefixtures("chatloop")
async def test_an_interrupt_that_meets_a_pause_for_the_client_leaves_no_open_call(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database: asyncpg.Connection[asyncpg.Record],
) -> None:
    go_on = asyncio.Event()

    async def slow(_: CallTool) -> CallResult:
        await go_on.wait()
        return said("done")

    tool_host.tools["slow"] = slow
    fakes.script("m", Script([Turn([ToolCall("slow"), ToolCall("ask_user")]), Turn([Text("x")])]))
    tools = (ClientTool("ask_user", "Ask.", {"type": "object", "properties": {}}),)
    chat = await store.create("go", model=await models.add("chat", "m"), client_tools=tools)
    async with asyncio.timeout(60):
        await tool_host.called.get()

    # The worker is not told: its control message is lost.
    await database.execute("SELECT interrupt_chat($1, $2)", store.actor.user_id, chat.id)
    go_on.set()
    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "interrupted")
    assert broken(await read_rows(database, chat.id)) == []


@pytest.mark.usefixtures("chatloop")
async def test_results_that_are_too_large_together_are_cut_and_the_turn_goes_on(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database: asyncpg.Connection[asyncpg.Record],
) -> None:
    async def big(_: CallTool) -> CallResult:
        return said("x" * 2_500_000)

    tool_host.tools["big"] = big
    fakes.script("m", Script([Turn([ToolCall("big"), ToolCall("big")]), Turn([Text("fine")])]))
    chat = await store.create("go", model=await models.add("chat", "m"))

    rested = await store.at_rest(chat.id)

    assert rested.last_outcome == "completed"
    assert broken(await read_rows(database, chat.id)) == []
    stored = await database.fetchval("SELECT max(size) FROM messages WHERE chat_id = $1", chat.id)
    assert 2_000_000 < stored < 2_100_000
    cut = "1500000 characters were too many to store"
    row = await database.fetchval(
        "SELECT content::text LIKE $2 FROM messages WHERE chat_id = $1 AND role = 'tool'",
        chat.id,
        f"%{cut}%",
    )
    assert row


@pytest.mark.usefixtures("chatloop")
async def test_an_interrupted_step_that_is_too_large_is_cut_and_the_chat_rests(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Turn([Text("x" * 4_500_000)], chunk_chars=50_000))
    fakes.hold("m", deltas=86)
    chat = await store.create("go", model=await models.add("chat", "m"))
    async with asyncio.timeout(60):
        await fakes.held("m")
    await store.log.until(chat.id, events.PartDelta, seq=40)

    await store.interrupt(chat.id)
    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "interrupted")
    (partial,) = [m for m in await store.messages(chat.id) if m.stop == "interrupted"]
    assert words_of(partial).startswith("xxx")
    assert words_of(partial).endswith("characters were too many to store]")
