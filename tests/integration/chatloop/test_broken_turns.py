"""Turns in which something of ours breaks, or for which the store is away for too long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from prometheus_client import REGISTRY
from support.chat_driver import StoreDriver, assistant, new_actor, words_of
from support.chatloop import ModelSetup, ToolHost, said
from support.databases import expire_leases
from support.invariants import broken, read_rows
from support.services import running_chatloop, running_stores
from support.waiting import until

from steersman.embedded.nats import NatsServer
from steersman_contracts import events
from steersman_contracts.chats import Chat, ClientTool, Status
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import worker as work
from steersman_contracts.rpc.tools import CallResult, CallTool
from steersman_runtime.nats_client import NatsClient

WORDS = " ".join(f"word{number}" for number in range(60))


@pytest_asyncio.fixture(loop_scope="module")
async def database(database_url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def owned() -> float:
    """How many chats the chatloops of this process work on."""
    return REGISTRY.get_sample_value("steersman_chats_owned") or 0.0


@pytest.mark.usefixtures("tool_host")
async def test_what_breaks_ends_as_an_error_that_says_so_and_the_worker_takes_the_next_chat(
    store: StoreDriver,
    nats: NatsServer,
    database: asyncpg.Connection[asyncpg.Record],
    database_url: str,
) -> None:
    async def garble(chat_id: ChatId) -> None:
        """Newer than this version, or no longer what it was: its messages cannot be read."""
        await database.execute(
            'UPDATE messages SET content = \'[{"type":"hologram"}]\', public_content = NULL '
            "WHERE chat_id = $1",
            chat_id,
        )

    # Before the turn: what `acquire` answers cannot be read; also where an interrupt comes first.
    unreadable = await store.create("first")
    await store.acquire(unreadable.id, "dead")
    interrupted = await store.create("first")
    await store.acquire(interrupted.id, "dead")
    await store.send(interrupted.id, "second")
    await store.interrupt(interrupted.id)
    for chat in (unreadable, interrupted):
        await garble(chat.id)
    # And where only a later page of the history cannot be read.
    long = await store.create("first")
    await store.acquire(long.id, "dead")
    await garble(long.id)
    await store.commit(await store.fence(long.id, "dead"), assistant("a long answer"))
    await database.execute("UPDATE messages SET size = 100000000 WHERE chat_id = $1", long.id)
    await database.execute(
        "UPDATE messages SET content = CASE role WHEN 'user' THEN $2 ELSE $3 END::json "
        "WHERE chat_id = $1",
        long.id,
        '[{"type":"text","text":"first"}]',
        '[{"type":"hologram"}]',
    )
    # In the middle of the turn: the answer is there, and its check breaks.
    breaking = await store.create(None, response_schema={"type": "object"})
    await database.execute(
        "UPDATE chats SET response_schema = '{\"type\": 5}' WHERE id = $1", breaking.id
    )
    await store.send(breaking.id, "{}")
    # Before it, and again and again: whoever took it died.
    deadly = await store.create("first")
    await store.acquire(deadly.id, "dead")
    await database.execute("UPDATE chats SET generation_attempt = 25 WHERE id = $1", deadly.id)
    await expire_leases(database_url)

    async with running_chatloop(nats.url(), max_concurrent_turns=1):
        rested = {
            chat.id: await store.at_rest(chat.id)
            for chat in (unreadable, interrupted, long, breaking)
        }
        buried = await store.at_rest(deadly.id)
        fine = await store.create("still there?")
        assert (await store.at_rest(fine.id)).last_outcome == "completed"

    for chat in rested.values():
        assert (chat.status, chat.last_outcome, chat.queue_size) == (Status.ERROR, "error", 0)
        assert chat.last_error is not None
        assert (chat.last_error.kind, chat.last_error.message) == (
            "generic",
            "Something went wrong on our side.",
        )
    assert buried.last_error is not None
    assert (buried.status, buried.last_error.retryable) == (Status.ERROR, True)
    assert len(await store.messages(deadly.id)) == 1, "its model was not called once more"
    _, answer = await store.messages(breaking.id)
    assert (words_of(answer), answer.stop) == ("{}", "unknown")
    assert answer.usage is not None
    await store.log.until(interrupted.id, events.ChatStatusChanged, outcome="interrupted")
    assert broken(await read_rows(database, breaking.id)) == []


@pytest.mark.usefixtures("tool_host")
async def test_a_turn_lets_go_of_a_store_that_stays_away_and_its_successor_loses_nothing(
    nats: NatsServer, client: NatsClient, database_url: str, fakes: FakeProviders
) -> None:
    store = StoreDriver(client, await new_actor(database_url))
    fakes.script("m", Turn([Text(WORDS)]))
    gate = fakes.hold("m", deltas=20, count=2)
    async with running_chatloop(nats.url(), store_timeout_s=1.0):
        async with running_stores(nats.url(), database_url):
            model = await ModelSetup(store, fakes).add("chat", "m")
            going, stopped = [await store.create("hello", model=model) for _ in range(2)]
            async with asyncio.timeout(60):
                for _ in range(2):
                    await fakes.held("m")
        gate.release()
        # Whole, and nobody takes it: what people have seen of it is in the event log alone.
        await until(lambda: owned() == 0)

    connection = await asyncpg.connect(database_url)
    # A person wanted the end of one, and the worker was not told any more.
    await connection.execute("SELECT interrupt_chat($1, $2)", store.actor.user_id, stopped.id)
    await connection.close()
    await expire_leases(database_url)
    async with running_stores(nats.url(), database_url), running_chatloop(nats.url()):
        ends = [await store.at_rest(chat.id) for chat in (going, stopped)]
        said = {chat.id: (await store.messages(chat.id))[1:] for chat in (going, stopped)}

    assert [chat.last_outcome for chat in ends] == ["completed", "interrupted"]
    assert [(words_of(m), m.stop) for m in said[going.id]] == [(WORDS, "end")]
    assert [(words_of(m), m.stop) for m in said[stopped.id]] == [(WORDS, "interrupted")]
    # One more model call, for the step that could not be saved and that somebody still wants.
    assert len(fakes.requests) == 3


@pytest.mark.usefixtures("tool_host")
async def test_a_chat_that_cannot_be_loaded_for_a_moment_is_loaded_or_interrupted_a_moment_later(
    store: StoreDriver,
    nats: NatsServer,
    client: NatsClient,
    database: asyncpg.Connection[asyncpg.Record],
) -> None:
    chats = [await store.create("first") for _ in range(2)]
    for chat in chats:
        await store.acquire(chat.id)
        await store.finish(await store.fence(chat.id), assistant("an answer"))
    # More than fits one reply, so that pages follow.
    await database.execute("UPDATE messages SET size = 100000000")
    whole: str = await database.fetchval("SELECT pg_get_functiondef('load_history'::regproc)")
    head, _, _ = whole.partition("DECLARE")
    await database.execute(f"{head} BEGIN PERFORM refuse('unavailable', 'away'); END $function$")
    asked: asyncio.Queue[ChatId] = asyncio.Queue()

    def on_ask(_: bytes, __: bytes, ___: bytes, body: bytes) -> None:
        asked.put_nowait(msgspec.json.decode(body, type=work.LoadHistory).chat_id)

    client.listen(work.LOAD_HISTORY.subject, on_ask)

    async with running_chatloop(nats.url()):
        for chat in chats:
            await store.send(chat.id, "second")
        twice: Counter[ChatId] = Counter()
        async with asyncio.timeout(60):
            while len(twice) < 2 or min(twice.values()) < 2:
                twice[await asked.get()] += 1
        going, stopped = chats
        await store.interrupt(stopped.id)
        await database.execute(whole)
        rested = [await store.at_rest(chat.id) for chat in chats]

    assert [chat.last_outcome for chat in rested] == ["completed", "interrupted"]
    assert [chat.last_error for chat in rested] == [None, None]
    words = [words_of(message) for message in await store.messages(going.id)]
    assert words == ["first", "an answer", "second", "second"]
    words = [words_of(message) for message in await store.messages(stopped.id)]
    assert words == ["first", "an answer", "second"], "its model was not called any more"


async def test_a_turn_has_so_many_model_calls_its_client_five_minutes_and_nobody_a_month(
    store: StoreDriver,
    nats: NatsServer,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    database: asyncpg.Connection[asyncpg.Record],
) -> None:
    async def look(_: CallTool) -> CallResult:
        return said("seen")

    tool_host.tools["look"] = look
    # Each time somewhere else: it does not go in circles.
    steps = [Turn([ToolCall("look", {"at": number})]) for number in range(9)]
    fakes.script("endless", Script(steps))
    fakes.script("asking", Turn([ToolCall("ask_client", {})]))
    fakes.script("late", Turn([Text("at last")]))
    fakes.fail("late", 429, retry_after=30 * 86_400)
    tools = (ClientTool("ask_client", "Ask.", {"type": "object", "properties": {}}),)
    async with running_chatloop(nats.url(), max_steps=3):
        endless = await store.create("go", model=await models.add("chat", "endless"))
        model = await models.add("chat", "asking")
        asking: Chat = await store.create("go", model=model, client_tools=tools)
        late = await store.create("go", model=await models.add("chat", "late"))
        rested = await store.at_rest(endless.id)
        await store.log.until(asking.id, events.ActionRequired)
        refused = await store.at_rest(late.id)

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "step_limit")
    assert [request.model for request in fakes.requests].count("endless") == 3
    # Nobody waits a month in the middle of a turn.
    assert refused.last_error is not None
    assert (refused.status, refused.last_error.kind) == (Status.ERROR, "rate_limit")
    assert broken(await read_rows(database, endless.id)) == []
    row = await database.fetchrow(
        "SELECT extract(epoch FROM action_expires_at - updated_at)::float AS given_s "
        "FROM chats WHERE id = $1",
        asking.id,
    )
    assert row is not None
    assert 300 <= row["given_s"] < 330  # the transaction itself takes a moment
