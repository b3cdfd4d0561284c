"""Turns end to end between store, chatloop, provider and tool host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
import pytest
from fakes import (
    FakeProviders,
    HttpError,
    Reasoning,
    Script,
    SearchResult,
    ServerToolSearch,
    StreamError,
    Text,
    ToolCall,
    Turn,
)
from support.chat_driver import StoreDriver, assistant, words_of
from support.chatloop import KINDS, ModelSetup, ToolHost, said
from support.databases import expire_leases
from support.services import running_chatloop

from steersman.embedded.nats import NatsServer
from steersman_contracts import events, subjects
from steersman_contracts.chats import ClientTool, Role, Status
from steersman_contracts.deltas import (
    Delta,
    PartsBuilder,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from steersman_contracts.errors import Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import Parts, SourcePart, TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.rpc.tools import CallResult, CallTool
from steersman_runtime.jetstream import Publisher, request
from steersman_runtime.nats_client import NatsClient, encode_headers

pytestmark = pytest.mark.one_stack

WORDS = " ".join(f"word{number}" for number in range(60))


async def stream_as(
    client: NatsClient,
    chat_id: ChatId,
    deltas: list[Delta],
    *,
    seq: int = 1,
    response_id: str | None = None,
) -> None:
    """Publish deltas as the worker of the first episode of a chat."""
    event = events.PartDelta(
        chat_id=chat_id,
        history_version=1,
        attempt=1,
        seq=seq,
        deltas=tuple(deltas),
        response_id=response_id,
    )
    await Publisher(client).publish(
        subjects.chat_events(chat_id),
        msgspec.json.encode(event),
        headers=encode_headers({events.EVENT_HEADER: event.name}),
    )


@asynccontextmanager
async def log_away_at_first(client: NatsClient) -> AsyncGenerator[None]:
    """Whoever reads the event log is told that nobody answers, until the first has been."""
    stream = f"STREAM.INFO.{subjects.EVENT_STREAM}"
    _, told = await request(client, f"$JS.API.{stream}", b"")
    config = msgspec.json.decode(told)["config"]

    async def answers(*, directly: bool) -> None:
        body = msgspec.json.encode(config | {"allow_direct": directly})
        _, told = await request(client, f"$JS.API.STREAM.UPDATE.{subjects.EVENT_STREAM}", body)
        assert "error" not in msgspec.json.decode(told)

    asked = asyncio.Event()

    def refuse(_: bytes, reply: bytes, __: bytes, ___: bytes) -> None:
        client.send(reply.decode(), b"", headers=b"NATS/1.0 503\r\n\r\n")
        asked.set()

    async def come_back() -> None:
        await asked.wait()
        client.unlisten(sid)
        await answers(directly=True)

    await answers(directly=False)
    sid = client.listen(f"$JS.API.DIRECT.GET.{subjects.EVENT_STREAM}", refuse)
    back = asyncio.create_task(come_back())
    yield
    async with asyncio.timeout(60):
        await back


def streamed(store: StoreDriver, chat_id: ChatId) -> dict[tuple[int, int], Parts]:
    """What each episode of a chat has streamed, folded from its deltas."""
    builders: dict[tuple[int, int], PartsBuilder] = {}
    seqs: dict[tuple[int, int], int] = {}
    for event in store.log.of(chat_id):
        if isinstance(event, events.PartDelta):
            key = (event.history_version, event.attempt)
            assert event.seq == seqs.get(key, 0) + 1, "deltas are in order, none is missing"
            seqs[key] = event.seq
            for delta in event.deltas:
                builders.setdefault(key, PartsBuilder()).apply(delta)
    return {key: builder.parts() for key, builder in builders.items()}


@pytest.mark.usefixtures("chatloops")
@pytest.mark.parametrize("provider", KINDS)
async def test_what_is_streamed_is_what_is_stored(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, provider: str
) -> None:
    fakes.script("m", Turn([Reasoning("Let me think."), Text(WORDS)]))
    chat = await store.create("hello", model=await models.add(provider, "m"))

    rested = await store.at_rest(chat.id)

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "completed")
    question, answer = await store.messages(chat.id)
    assert words_of(question) == "hello"
    assert words_of(answer) == WORDS
    await store.log.until(chat.id, events.ChatStatusChanged, outcome="completed")
    assert streamed(store, chat.id) == {(1, 1): answer.parts}
    kinds = [type(event) for event in store.log.of(chat.id)]
    # Once, but not always first: the outbox is relayed, and deltas do not wait for it.
    assert kinds.count(events.AttemptStarted) == 1
    last_delta = max(i for i, kind in enumerate(kinds) if kind is events.PartDelta)
    assert last_delta < max(i for i, kind in enumerate(kinds) if kind is events.MessageCreated)


@pytest.mark.usefixtures("chatloops")
async def test_an_interrupt_keeps_exactly_what_was_streamed(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Turn([Text(WORDS)]))
    fakes.hold("m", deltas=20)
    chat = await store.create("hello", model=await models.add("chat", "m"))
    async with asyncio.timeout(60):
        await fakes.held("m")
    await store.log.until(chat.id, events.PartDelta)

    await store.interrupt(chat.id)

    rested = await store.at_rest(chat.id)
    assert (rested.status, rested.last_outcome) == (Status.WAITING, "interrupted")
    async with asyncio.timeout(60):
        await fakes.disconnected("m")
    partial = (await store.messages(chat.id))[-1]
    assert partial.stop == "interrupted"
    assert words_of(partial) == " ".join(f"word{number}" for number in range(20))
    await store.log.until(chat.id, events.ChatStatusChanged, outcome="interrupted")
    assert streamed(store, chat.id) == {(1, 1): partial.parts}


@pytest.mark.usefixtures("chatloops")
async def test_a_message_sent_during_a_turn_gets_its_own_turn(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Script([Turn([Text("one")]), Turn([Text("two")])]))
    gate = fakes.hold("m")
    chat = await store.create("first", model=await models.add("anthropic", "m"))
    async with asyncio.timeout(60):
        await fakes.held("m")
    reply = await store.send(chat.id, "second")
    gate.release()

    await store.at_rest(chat.id)

    assert reply.delivery == "queued"
    words = [words_of(message) for message in await store.messages(chat.id)]
    assert words == ["first", "one", "second", "two"]


@pytest.mark.usefixtures("chatloops")
async def test_a_failure_in_the_middle_is_retried_and_leaves_no_trace(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Turn([Text(WORDS)]))
    fakes.fault("m", StreamError(deltas=10, error_type="overloaded_error"))
    chat = await store.create("hello", model=await models.add("anthropic", "m"))

    retry = await store.log.until(chat.id, events.RetryScheduled)
    await store.at_rest(chat.id)

    assert isinstance(retry, events.RetryScheduled)
    assert (retry.attempt, retry.delay_ms, retry.kind) == (1, 1000, "overloaded")
    said, answer = await store.messages(chat.id)
    assert [words_of(said), words_of(answer)] == ["hello", WORDS]
    assert said.response_id is None
    assert (answer.response_id or "").startswith("msg_"), "the provider's own name of the answer"
    await store.log.until(chat.id, events.ChatStatusChanged, outcome="completed")
    attempts = [e.attempt for e in store.log.of(chat.id) if isinstance(e, events.AttemptStarted)]
    assert attempts == [1, 2]


@pytest.mark.usefixtures("chatloops")
async def test_an_empty_answer_is_asked_for_once_more_and_people_are_told(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    searched = ServerToolSearch("sea", [SearchResult("https://a.example", "A")])
    fakes.script("m", Script([Turn([searched, Text("\n")])], repeat=True))
    chat = await store.create("hello", model=await models.add("anthropic", "m"))

    rested = await store.at_rest(chat.id)

    assert rested.last_error is not None
    assert (rested.last_error.kind, rested.last_error.retryable) == ("generic", False)
    assert "empty answer" in rested.last_error.message
    assert len(fakes.requests) == 2
    await store.log.until(chat.id, events.ChatStatusChanged, outcome="error")
    log = store.log.of(chat.id)
    told = [e for e in log if isinstance(e, events.RetryScheduled)]
    assert [(e.attempt, e.delay_ms, e.kind) for e in told] == [(1, 0, "generic")]
    attempts = [e.attempt for e in log if isinstance(e, events.AttemptStarted)]
    assert attempts == [1, 2]


@pytest.mark.usefixtures("chatloops")
async def test_a_failure_that_no_retry_mends_ends_the_turn_with_its_kind(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Script([Turn([Text("fine again")])], repeat=True))
    fakes.fault("m", HttpError(401))
    chat = await store.create("hello", model=await models.add("responses", "m"))

    rested = await store.at_rest(chat.id)
    await store.send(chat.id, "and now?")
    again = await store.at_rest(chat.id)

    assert rested.status is Status.ERROR
    assert rested.last_error is not None
    assert (rested.last_error.kind, rested.last_error.retryable) == ("auth", False)
    assert (again.status, again.last_error) == (Status.WAITING, None)
    assert words_of((await store.messages(chat.id))[-1]) == "fine again"


@pytest.mark.usefixtures("chatloops")
@pytest.mark.parametrize("provider", KINDS)
async def test_tools_run_at_once_and_answer_in_the_order_of_their_calls(
    store: StoreDriver,
    fakes: FakeProviders,
    models: ModelSetup,
    tool_host: ToolHost,
    provider: str,
) -> None:
    meet = asyncio.Barrier(2)
    second_done = asyncio.Event()

    async def slow(_: CallTool) -> CallResult:
        await meet.wait()
        await second_done.wait()
        return said("slow one")

    async def quick(_: CallTool) -> CallResult:
        await meet.wait()
        second_done.set()
        return CallResult((TextPart("quick one"), source))

    source = SourcePart("https://example.org/quick", "Quick")
    tool_host.tools |= {"slow": slow, "quick": quick}
    calls = [ToolCall("slow", {"a": 1}), ToolCall("quick", {"b": [2]})]
    fakes.script("m", Script([Turn([Text("both"), *calls]), Turn([Text("done")])]))
    chat = await store.create("go", model=await models.add(provider, "m"))

    async with asyncio.timeout(60):
        asked = [await tool_host.called.get() for _ in range(2)]
    await store.at_rest(chat.id)

    assert {(call.tool, str(call.arguments)) for call in asked} == {
        ("slow", "{'a': 1}"),
        ("quick", "{'b': [2]}"),
    }
    messages = await store.messages(chat.id)
    assert [m.role for m in messages] == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    results = [part for part in messages[2].parts if isinstance(part, ToolResultPart)]
    assert [(r.tool, r.content, r.is_error) for r in results] == [
        ("slow", (TextPart("slow one"),), False),
        ("quick", (TextPart("quick one"), source), False),
    ]
    assert words_of(messages[3]) == "done"
    _, second = [await fakes.next_request("m") for _ in range(2)]
    # Sources are for people: the model reads the text.
    assert [r.text for m in second.view.messages for r in m.results] == ["slow one", "quick one"]
    await store.log.until(chat.id, events.ToolProgress, tool="slow", text="on it")


@pytest.mark.usefixtures("chatloops")
async def test_a_call_is_asked_for_as_the_first_until_somebody_may_have_begun_it(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    fails = iter((Unavailable("no book", not_booked=True), Unavailable("gone"), None))

    async def look(_: CallTool) -> CallResult:
        if (error := next(fails)) is not None:
            raise error
        return said("seen")

    tool_host.tools["look"] = look
    fakes.script("m", Script([Turn([ToolCall("look")]), Turn([Text("done")])]))
    chat = await store.create("go", model=await models.add("chat", "m"))

    assert words_of((await store.messages((await store.at_rest(chat.id)).id))[-1]) == "done"
    asked = [tool_host.called.get_nowait() for _ in range(tool_host.called.qsize())]
    assert [request.first for request in asked] == [True, True, False]
    assert len({request.era for request in asked}) == 1


@pytest.mark.usefixtures("chatloops")
async def test_an_interrupt_between_tools_keeps_finished_results_and_closes_the_rest(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    finished = asyncio.Event()

    async def quick(_: CallTool) -> CallResult:
        finished.set()
        return said("quick one")

    async def endless(_: CallTool) -> CallResult:
        await asyncio.Event().wait()
        raise AssertionError

    tool_host.tools |= {"endless": endless, "quick": quick}
    calls = [ToolCall("endless"), ToolCall("quick")]
    fakes.script("m", Script([Turn([*calls]), Turn([Text("after")])], repeat=True))
    chat = await store.create("go", model=await models.add("anthropic", "m"))
    async with asyncio.timeout(60):
        await finished.wait()
        for _ in range(2):
            await tool_host.called.get()
    await store.log.until(chat.id, events.ToolProgress, tool="endless")

    await store.interrupt(chat.id)

    rested = await store.at_rest(chat.id)
    assert rested.last_outcome == "interrupted"
    results = [
        p for p in (await store.messages(chat.id))[-1].parts if isinstance(p, ToolResultPart)
    ]
    assert [(r.tool, r.is_error) for r in results] == [("endless", True), ("quick", False)]
    assert results[0].content == (TextPart("interrupted before it produced a result"),)
    async with asyncio.timeout(60):
        assert (await tool_host.cancelled.get()).call_id == results[0].call_id


@pytest.mark.usefixtures("chatloops")
async def test_a_call_with_broken_arguments_or_an_unknown_tool_is_answered_and_never_run(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def never(_: CallTool) -> CallResult:
        raise AssertionError

    tool_host.tools["known"] = never
    calls = [ToolCall("known", raw='{"cut": '), ToolCall("unknown", {})]
    fakes.script("m", Script([Turn([*calls]), Turn([Text("sorry")])]))
    chat = await store.create("go", model=await models.add("chat", "m"))

    await store.at_rest(chat.id)

    messages = await store.messages(chat.id)
    results = [part for part in messages[2].parts if isinstance(part, ToolResultPart)]
    assert [result.is_error for result in results] == [True, True]
    assert tool_host.called.empty()
    assert words_of(messages[3]) == "sorry"


@pytest.mark.usefixtures("chatloops")
async def test_the_next_turn_sends_the_whole_conversation(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Script([Turn([Text("one")]), Turn([Text("two")])]))
    chat = await store.create("first", model=await models.add("anthropic", "m"))
    await store.at_rest(chat.id)
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)

    async with asyncio.timeout(60):
        requests = [await fakes.next_request("m") for _ in range(2)]

    view = requests[1].view
    assert [(m.role, m.text) for m in view.messages] == [
        ("user", "first"),
        ("assistant", "one"),
        ("user", "second"),
    ]


async def test_the_successor_of_a_dead_worker_saves_what_people_have_seen_and_ends_its_calls(
    store: StoreDriver,
    nats: NatsServer,
    client: NatsClient,
    database_url: str,
    tool_host: ToolHost,
) -> None:
    calling = await store.create("hello")
    await store.acquire(calling.id, "dead", lease_s=60)
    await store.commit(
        await store.fence(calling.id, "dead"), assistant(ToolCallPart("c1", "build", {}))
    )
    await store.interrupt(calling.id)
    chat = await store.create("hello")
    await store.acquire(chat.id, "dead", lease_s=60)
    fence = await store.fence(chat.id, "dead")
    await store.begin(fence)
    words: list[Delta] = [TextDelta(0, "one "), TextDelta(0, "two")]
    await stream_as(client, chat.id, words, response_id="msg_1")
    call = ToolCallStarted(1, "call-1", "read_file")
    await stream_as(client, chat.id, [call, ToolArgumentsDelta(1, '{"path"')], seq=2)
    # After a hole: NATS was away for a moment, and did not take what came between.
    await stream_as(client, chat.id, [ToolArgumentsDelta(1, '"b"}'), TextDelta(2, "x")], seq=4)
    await store.interrupt(chat.id)
    await expire_leases(database_url)

    async with log_away_at_first(client), running_chatloop(nats.url()):
        rested = await store.at_rest(chat.id)
        await store.at_rest(calling.id)
        async with asyncio.timeout(60):
            assert (await tool_host.cancelled.get()).call_id == "c1"

    assert (rested.status, rested.last_outcome) == (Status.WAITING, "interrupted")
    _, partial, results = await store.messages(chat.id)
    assert (words_of(partial), partial.stop) == ("one two", "interrupted")
    assert partial.response_id == "msg_1"
    assert [(p.call_id, p.is_error) for p in results.parts if isinstance(p, ToolResultPart)] == [
        ("call-1", True)
    ]


@pytest.mark.usefixtures("chatloops")
async def test_a_chat_waits_for_its_client_and_goes_on_with_the_answer(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup, tool_host: ToolHost
) -> None:
    async def quick(_: CallTool) -> CallResult:
        return said("quick one")

    tool_host.tools["quick"] = quick
    calls = [ToolCall("ask_user", {"question": "?"}), ToolCall("quick")]
    fakes.script("m", Script([Turn([*calls]), Turn([Text("thanks")])]))
    schema = {"type": "object", "properties": {"question": {"type": "string"}}}
    tools = (ClientTool("ask_user", "Ask the person.", schema),)
    chat = await store.create("go", model=await models.add("anthropic", "m"), client_tools=tools)
    required = await store.log.until(chat.id, events.ActionRequired)
    assert isinstance(required, events.ActionRequired)
    (pending,) = required.action.calls

    await store.submit(chat.id, {pending.call_id: "yes"})
    rested = await store.at_rest(chat.id)

    assert (pending.tool, rested.last_outcome) == ("ask_user", "completed")
    messages = await store.messages(chat.id)
    results = [part for part in messages[2].parts if isinstance(part, ToolResultPart)]
    assert [(r.tool, r.content) for r in results] == [
        ("ask_user", (TextPart("yes"),)),
        ("quick", (TextPart("quick one"),)),
    ]
    assert words_of(messages[3]) == "thanks"


@pytest.mark.usefixtures("chatloops")
async def test_an_edit_during_a_turn_starts_it_again_from_there(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Turn([Text(WORDS)]))
    fakes.hold("m", deltas=5)
    chat = await store.create("first", model=await models.add("chat", "m"))
    async with asyncio.timeout(60):
        await fakes.held("m")
    message = (await store.messages(chat.id))[0]

    await store.edit(chat.id, message.id, "better")
    async with asyncio.timeout(60):
        await fakes.disconnected("m")
    await store.at_rest(chat.id)

    assert [words_of(m) for m in await store.messages(chat.id)] == ["better", WORDS]


@pytest.mark.usefixtures("chatloops")
async def test_after_a_boundary_the_model_sees_only_what_follows(
    store: StoreDriver, fakes: FakeProviders, models: ModelSetup
) -> None:
    fakes.script("m", Script([Turn([Text("one")])], repeat=True))
    chat = await store.create("first", model=await models.add("chat", "m"))
    await store.at_rest(chat.id)
    await store.clear(chat.id)
    await store.send(chat.id, "second")
    await store.at_rest(chat.id)

    async with asyncio.timeout(60):
        requests = [await fakes.next_request("m") for _ in range(2)]

    seen = [(m.role, m.text) for m in requests[1].view.messages if m.role != "system"]
    assert seen == [("user", "second")]
