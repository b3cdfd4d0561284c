"""The model is asked about results of tools while they are stored; the store has the last word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from fakes import FakeProviders, Script, Text, ToolCall, Turn
from fakes.script import RequestView
from support.chat_driver import StoreDriver, words_of
from support.chatloop import ModelSetup, ToolHost, said
from support.invariants import broken_deltas
from support.waiting import until

from steersman_chatloop.compaction import INSTRUCTION
from steersman_contracts import events
from steersman_contracts.chats import Chat
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart, ToolResultPart
from steersman_contracts.rpc.tools import CallResult, CallTool
from steersman_contracts.terms import TurnLimits

pytestmark = pytest.mark.one_stack

ONE_CALL = Script([Turn([ToolCall("look")]), Turn([Text("done with it")])], repeat=True)


class Stage:
    """A tool that ends when the test says so, and a chat whose row the test holds locked."""

    def __init__(self, store: StoreDriver, tool_host: ToolHost, database: str) -> None:
        self._store = store
        self._tool_host = tool_host
        self._database = database
        self.go_on = asyncio.Event()
        tool_host.tools["look"] = self._look

    async def _look(self, _: CallTool) -> CallResult:
        await self.go_on.wait()
        return said("seen")

    async def in_its_tool(self, model: str, **fields: TurnLimits) -> Chat:
        """A chat whose tool runs."""
        self.go_on.clear()
        chat = await self._store.create("go", model=model, **fields)
        async with asyncio.timeout(60):
            await self._tool_host.called.get()
        return chat

    @asynccontextmanager
    async def locked(self, chat_id: ChatId) -> AsyncGenerator[Callable[[int], Waiting]]:
        """Nobody changes the chat; whoever wants to waits, and goes on in that order."""
        connection = await asyncpg.connect(self._database)
        # In a transaction, what PostgreSQL tells of its activity stays what it was at first.
        watching = await asyncpg.connect(self._database)
        try:
            async with connection.transaction():
                await connection.execute("SELECT FROM chats WHERE id = $1 FOR UPDATE", chat_id)
                yield lambda count: Waiting(watching, count)
        finally:
            await connection.close()
            await watching.close()


class Waiting:
    """Awaited until so many transitions wait for the chat."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], count: int) -> None:
        self._connection = connection
        self._count = count

    async def there(self) -> None:
        async def check() -> bool:
            found = await self._connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return found == self._count

        await until(check)


@pytest.fixture
def stage(store: StoreDriver, tool_host: ToolHost, database_url: str) -> Stage:
    return Stage(store, tool_host, database_url)


@pytest.mark.usefixtures("chatloops")
async def test_nothing_is_heard_of_the_answer_before_the_results_are_stored(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, stage: Stage
) -> None:
    fakes.script("m", ONE_CALL)
    chat = await stage.in_its_tool(await models.add("anthropic", "m"))
    async with stage.locked(chat.id) as waiting, asyncio.timeout(60):
        stage.go_on.set()
        for _ in range(2):
            await fakes.finished("m")  # all of the answer is on its way before the commit
        await waiting(1).there()
        before = list(store.log.of(chat.id))
    rested = await store.at_rest(chat.id)

    messages = await store.messages(chat.id)
    assert [words_of(m) for m in messages] == ["go", "", "", "done with it"]
    assert rested.last_outcome == "completed"
    assert [request.view.step_index for request in fakes.requests] == [0, 1]
    deltas = [e for e in before if isinstance(e, events.PartDelta)]
    assert {(e.history_version, e.attempt) for e in deltas} == {(messages[0].revision, 1)}
    # All of it is the episode of what was stored.
    later = [e for e in store.log.of(chat.id) if isinstance(e, events.PartDelta)][len(deltas) :]
    assert {(e.history_version, e.attempt) for e in later} == {(messages[2].revision, 1)}
    assert broken_deltas(store.log.of(chat.id)) == []


@pytest.mark.usefixtures("chatloops")
async def test_an_interrupt_that_comes_first_ends_the_call_and_keeps_the_results(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, stage: Stage
) -> None:
    fakes.script("m", ONE_CALL)
    chat = await stage.in_its_tool(await models.add("anthropic", "m"))
    gate = fakes.hold("m", deltas=1)
    async with stage.locked(chat.id) as waiting, asyncio.timeout(60):
        stage.go_on.set()
        await waiting(1).there()  # the commit
        interrupting = asyncio.create_task(store.interrupt(chat.id))
        await waiting(2).there()
        await fakes.held("m")
    await interrupting
    async with asyncio.timeout(60):
        await fakes.disconnected("m")
    gate.release()
    rested = await store.at_rest(chat.id)
    kept = await store.messages(chat.id)

    # The other way round: the commit is refused while the model answers.
    chat = await stage.in_its_tool("anthropic/m")
    gate = fakes.hold("m", deltas=1)
    async with stage.locked(chat.id) as waiting, asyncio.timeout(60):
        interrupting = asyncio.create_task(store.interrupt(chat.id))
        await waiting(1).there()
        stage.go_on.set()
        await waiting(2).there()
        await fakes.held("m")
    await interrupting
    async with asyncio.timeout(60):
        await fakes.disconnected("m")
    gate.release()
    refused = await store.at_rest(chat.id)
    messages = await store.messages(chat.id)

    assert [rested.last_outcome, refused.last_outcome] == ["interrupted"] * 2
    assert [m.role.value for m in messages] == ["user", "assistant", "tool"]
    # The first one may have been heard to begin, once its results were stored.
    assert [m.role.value for m in kept][:3] == ["user", "assistant", "tool"]
    for result in (kept[2].parts[0], messages[2].parts[0]):
        assert isinstance(result, ToolResultPart)
        assert result.content == (TextPart("seen"),)

    await store.send(chat.id, "and now")
    await store.at_rest(chat.id)
    assert words_of((await store.messages(chat.id))[-1]) == "done with it"


@pytest.mark.usefixtures("chatloops")
async def test_what_people_want_meanwhile_ends_the_call_and_a_limit_keeps_it_from_beginning(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, stage: Stage
) -> None:
    asked: list[RequestView] = []

    def answer(view: RequestView) -> Turn:
        asked.append(view)
        if len(asked) == 1:
            return Turn([ToolCall("look")])
        return Turn([Text("THE SUMMARY" if INSTRUCTION in view.last_user_text else "done")])

    fakes.script("s", answer)
    chat = await stage.in_its_tool(await models.add("anthropic", "s"))
    gate = fakes.hold("s", deltas=1)
    async with stage.locked(chat.id) as waiting, asyncio.timeout(60):
        wanting = asyncio.create_task(store.compact(chat.id))
        await waiting(1).there()
        stage.go_on.set()
        await waiting(2).there()
        await fakes.held("s")
    await wanting
    async with asyncio.timeout(60):
        await fakes.disconnected("s")
    gate.release()
    rested = await store.at_rest(chat.id)
    assert rested.last_outcome == "completed"
    assert words_of((await store.messages(chat.id))[-1]) == "done"
    assert [INSTRUCTION in view.last_user_text for view in asked] == [False, False, True, False]
    assert "THE SUMMARY" in asked[-1].messages[-1].text + asked[-1].messages[0].text

    fakes.script("m", ONE_CALL)
    limited = await stage.in_its_tool(
        await models.add("anthropic", "m"), limits=TurnLimits(tokens=10**6)
    )
    async with stage.locked(limited.id) as waiting, asyncio.timeout(60):
        stage.go_on.set()
        await waiting(1).there()
        while_stored = [r.view.step_index for r in fakes.requests if r.model == "m"]
    await store.at_rest(limited.id)
    assert while_stored == [0]
    assert [r.view.step_index for r in fakes.requests if r.model == "m"] == [0, 1]
