"""What goes wrong between us and a provider, in every wire format."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import pytest
from contract.providers.harness import Conversation, Step, access, access_to, collect, fold
from fakes.faults import (
    Comments,
    ContentType,
    CrlfLines,
    Cut,
    Eof,
    Fault,
    Garbage,
    Hang,
    HugeDelta,
    Stall,
    StreamError,
    TinyChunks,
)
from fakes.script import (
    Item,
    Kind,
    Reasoning,
    Refusal,
    Script,
    SearchResult,
    ServerToolSearch,
    Stop,
    StopReason,
    Text,
    ToolCall,
    Turn,
)
from fakes.script import (
    Usage as Tokens,
)
from fakes.server import FakeProviders

from steersman_chatloop.providers.base import ProviderFailed, StepEnded, StepEvent, StepNamed
from steersman_chatloop.providers.registry import Providers
from steersman_contracts.chats import ErrorKind, Role
from steersman_contracts.deltas import PartsBuilder, TextDelta
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.worker import ModelAccess

# Gemini sends every call whole, its arguments as an object.
CUTTABLE: list[Kind] = ["anthropic", "responses", "chat"]
HELLO = Turn([Text("Hello there, dear world.")])


async def failed(chat: Conversation) -> ProviderFailed:
    with pytest.raises(ProviderFailed) as caught:
        await chat.say("hi")
    return caught.value


HTTP: list[tuple[int, ErrorKind, bool]] = [
    (400, "config", False),
    (401, "auth", False),
    (403, "auth", False),
    (404, "config", False),
    (408, "timeout", True),
    (413, "context_overflow", False),
    (429, "rate_limit", True),
    (500, "generic", True),
    (502, "timeout", True),
    (504, "timeout", True),
    (529, "overloaded", True),
]


@pytest.mark.parametrize(("status", "error", "retryable"), HTTP)
async def test_a_refused_request_is_classified(
    chat: Conversation,
    kind: Kind,
    fakes: FakeProviders,
    status: int,
    error: ErrorKind,
    *,
    retryable: bool,
) -> None:
    fakes.script("*", HELLO)
    fakes.fail("*", status)

    failure = (await failed(chat)).error

    assert (failure.kind, failure.retryable, failure.status_code) == (error, retryable, status)
    assert failure.provider == kind
    assert len(fakes.requests) == 1, "the SDK does not try again"


async def test_the_time_to_wait_is_read(chat: Conversation, fakes: FakeProviders) -> None:
    fakes.script("*", HELLO)
    fakes.fail("*", 429, retry_after=7)
    assert (await failed(chat)).retry_after_s == 7


async def test_a_wrong_key_is_named_and_not_shown(
    fakes: FakeProviders, providers: Providers, kind: Kind
) -> None:
    fakes.script("*", HELLO)
    model = msgspec.structs.replace(access(kind, fakes), api_key="invalid-key-1234567890")
    failure = (await failed(Conversation(providers, model))).error
    assert (failure.kind, failure.retryable) == ("auth", False)
    assert "invalid-key-1234567890" not in failure.detail + failure.message


async def test_an_unknown_model_is_a_matter_of_configuration(chat: Conversation) -> None:
    failure = (await failed(chat)).error
    assert (failure.kind, failure.retryable) == ("config", False)


async def test_a_closed_port_is_a_connection_that_may_come_back(
    kind: Kind, providers: Providers, unused_tcp_port: int
) -> None:
    chat = Conversation(providers, access_to(kind, f"http://127.0.0.1:{unused_tcp_port}"))
    failure = (await failed(chat)).error
    assert (failure.kind, failure.retryable) == ("timeout", True)


async def test_an_unknown_host_is_a_matter_of_configuration(
    kind: Kind, providers: Providers
) -> None:
    failure = (
        await failed(Conversation(providers, access_to(kind, "http://nowhere.invalid")))
    ).error
    assert failure.kind in ("config", "timeout")  # a host without any resolver says "try again"


IN_STREAM: list[StreamError] = [
    StreamError(),
    StreamError(deltas=2),
    StreamError(deltas=2, shape="nested"),
    StreamError(deltas=2, shape="failed"),
]


@pytest.mark.parametrize("fault", IN_STREAM, ids=str)
async def test_an_error_inside_the_stream_can_be_tried_again(
    chat: Conversation, kind: Kind, fakes: FakeProviders, fault: StreamError
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", fault)
    failure = (await failed(chat)).error
    overloaded = kind in ("anthropic", "gemini")
    assert failure.kind == ("overloaded" if overloaded else "generic")
    assert failure.retryable


CUTS: list[Fault] = [
    Cut(),
    Cut(deltas=2),
    Cut(deltas=2, mid_frame=True),
    Cut(deltas=2, reset=True),
    Eof(),
    Eof(deltas=2),
    Garbage(deltas=2),
]


@pytest.mark.parametrize("fault", CUTS, ids=str)
async def test_a_cut_is_never_an_answer(
    chat: Conversation, fakes: FakeProviders, fault: Fault
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", fault)

    failure = (await failed(chat)).error

    assert (failure.kind, failure.retryable) == ("timeout", True)
    again = await chat.step()
    assert again.text == "Hello there, dear world."


@pytest.mark.parametrize("kind", CUTTABLE)
@pytest.mark.parametrize("fault", [Eof(deltas=3), Cut(deltas=3)], ids=str)
async def test_a_call_that_was_cut_off_stays_open(
    kind: Kind, fakes: FakeProviders, providers: Providers, fault: Fault
) -> None:
    fakes.script("*", Turn([Text("Hm"), ToolCall("add", {"a": 1, "note": "long enough to split"})]))
    fakes.fault("*", fault)
    chat = Conversation(providers, access(kind, fakes))
    chat.add(Role.USER, [TextPart("hi")])
    builder = PartsBuilder()
    with pytest.raises(ProviderFailed):
        await fold_into(builder, providers.stream(chat.request()))
    assert len(builder.unclosed_calls()) == 1


async def fold_into(builder: PartsBuilder, stream: AsyncGenerator[StepEvent]) -> None:
    async with aclosing(stream) as events:
        async for event in events:
            assert not isinstance(event, StepEnded)
            if not isinstance(event, StepNamed):
                builder.apply(event)


async def test_silence_before_the_first_event_ends_the_wait(
    kind: Kind, fakes: FakeProviders
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", Hang())
    providers = Providers(first_event_s=0.7, idle_s=60)
    # The first use imports the SDK, which is not part of the wait.
    failure = (await failed(Conversation(providers, access(kind, fakes)))).error
    assert (failure.kind, failure.retryable) == ("timeout", True)
    await fakes.disconnected()
    await providers.aclose()


async def test_silence_in_the_stream_ends_the_wait(kind: Kind, fakes: FakeProviders) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", Stall(deltas=2))
    providers = Providers(first_event_s=60, idle_s=0.2)
    failure = (await failed(Conversation(providers, access(kind, fakes)))).error
    assert (failure.kind, failure.retryable) == ("timeout", True)
    assert "no event for" in failure.detail
    await fakes.disconnected()
    await providers.aclose()


async def test_leaving_early_closes_the_request(
    chat: Conversation, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    fakes.hold("*", deltas=3)
    chat.add(Role.USER, [TextPart("hi")])
    seen: list[StepEvent] = []
    async with aclosing(providers.stream(chat.request())) as events:
        async for event in events:
            seen.append(event)
            if fold(seen) == (TextPart("Hello there,"),):
                break
    gone = await fakes.disconnected()
    assert gone.outcome == "client_gone"


async def test_cancelling_the_task_closes_the_request(
    chat: Conversation, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    gate = fakes.hold("*", deltas=2)
    chat.add(Role.USER, [TextPart("hi")])
    task = asyncio.create_task(collect(providers, chat.request()))
    await gate.reached()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await fakes.disconnected()


HARMLESS: list[Fault] = [
    Comments(),
    CrlfLines(),
    TinyChunks(),
    ContentType("text/plain"),
    HugeDelta(200_000),
]


@pytest.mark.parametrize("fault", HARMLESS, ids=str)
async def test_odd_but_legal_streams_are_read(
    chat: Conversation, fakes: FakeProviders, fault: Fault
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", fault)
    step = await chat.say("hi")
    if isinstance(fault, HugeDelta):
        assert step.text == "x" * 200_000
    else:
        assert step.text == "Hello there, dear world."
    assert step.stop == "end"


EMPTY: list[list[Item]] = [
    [],
    [Text(" ")],
    [Text("\n\n"), Text("\t \u00a0\n")],
    [Text("\u200b\u2060\n\x00")],
    [Reasoning("I wonder.")],
    [Reasoning("I wonder."), Text("\n")],
    [ServerToolSearch("sea", [SearchResult("https://a.example", "A")])],
    [ServerToolSearch("sea", [SearchResult("https://a.example", "A")]), Text(" \n")],
]


async def test_an_answer_that_says_nothing_is_an_error_with_a_name(
    chat: Conversation, fakes: FakeProviders
) -> None:
    used = Tokens(input=70, output=30)
    fakes.script("*", Script([Turn([*items, used]) for items in EMPTY], repeat=True))
    for items in EMPTY:
        failure = await failed(chat)
        assert (failure.error.kind, failure.error.retryable) == ("generic", False), items
        assert "empty answer" in failure.error.message, items
        assert failure.once, "another attempt may say more"
        assert failure.usage is not None, "it is paid for"
        assert (failure.usage.input_tokens, failure.usage.output_tokens) == (70, 30), items
    assert len(fakes.requests) == len(EMPTY), "whoever asks again says so"
    assert not fakes.refused


@pytest.mark.parametrize(
    ("body", "kind_of_error"),
    [("text/html", "config"), ("text/html; charset=utf-8", "config")],
)
async def test_a_web_page_is_no_answer_of_an_api(
    chat: Conversation, fakes: FakeProviders, body: str, kind_of_error: ErrorKind
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", ContentType(body))
    failure = (await failed(chat)).error
    assert (failure.kind, failure.retryable) == (kind_of_error, False)
    assert "base URL" in failure.message


async def test_an_answer_without_room_says_so(chat: Conversation, fakes: FakeProviders) -> None:
    fakes.script("*", Turn([Reasoning("I wonder."), Stop("max_tokens")]))
    failure = (await failed(chat)).error
    assert (failure.kind, failure.retryable) == ("config", False)
    assert "output tokens" in failure.message


async def test_an_answer_that_the_provider_filters_away_is_an_error(
    chat: Conversation, fakes: FakeProviders
) -> None:
    fakes.script("*", Turn([Stop("content_filter")]))
    failure = (await failed(chat)).error
    assert (failure.kind, failure.retryable) == ("content_filter", False)


async def test_a_filter_after_text_is_a_reason_to_stop(
    chat: Conversation, kind: Kind, fakes: FakeProviders
) -> None:
    fakes.script("*", Turn([Text("Once upon"), Stop("content_filter")]))
    step = await chat.say("hi")
    assert step.text == "Once upon"
    assert step.stop == ("refusal" if kind == "anthropic" else "content-filter")


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_a_refusal_is_text_with_a_reason(chat: Conversation, fakes: FakeProviders) -> None:
    fakes.script("*", [Turn([Refusal("I cannot do that.")]), Turn([Text("Fine.")])])
    step = await chat.say("hi")
    assert (step.text, step.stop) == ("I cannot do that.", "refusal")
    await chat.say("something else then")
    assert not fakes.refused


@pytest.mark.parametrize("kind", CUTTABLE)
async def test_a_limit_leaves_the_last_call_open(
    kind: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    call = ToolCall("add", raw='{"a": 1, "b')
    fakes.script("*", Turn([Text("Hm."), call, Stop("max_tokens")]))
    chat = Conversation(providers, access(kind, fakes))

    step = await chat.say("hi")

    assert step.stop == "max-tokens"
    builder = PartsBuilder()
    for event in step.events:
        assert not isinstance(event, StepEnded | StepNamed)
        builder.apply(event)
    assert builder.unclosed_calls() == {step.calls[0].call_id}
    assert step.calls[0].invalid == '{"a": 1, "b'


@pytest.mark.parametrize("kind", CUTTABLE)
@pytest.mark.parametrize("raw", ["{not json", "[1, 2]", '{"a": 1', '"text"'])
async def test_arguments_that_do_not_parse_are_marked_and_go_back_empty(
    kind: Kind, fakes: FakeProviders, providers: Providers, raw: str
) -> None:
    first = Turn([Reasoning("Hm."), ToolCall("add", raw=raw), ToolCall("add", {"a": 1})])
    fakes.script("*", [first, Turn([Text("Sorry.")])])
    chat = Conversation(providers, access(kind, fakes))

    step = await chat.say("hi")
    await chat.step()  # without results: both calls get one from `prepare`

    assert [call.invalid for call in step.calls] == [raw, None]
    assert not fakes.refused
    view = fakes.requests[1].view
    assert [c.arguments for message in view.messages for c in message.calls] == [{}, {"a": 1}]
    assert len(view.results) == 2


STOPS: list[tuple[StopReason, str]] = [
    ("end", "end"),
    ("max_tokens", "max-tokens"),
    ("stop_sequence", "stop-sequence"),
    ("pause", "pause"),
    ("refusal", "refusal"),
]


@pytest.mark.parametrize(("reason", "stop"), STOPS)
async def test_reasons_for_stopping_have_one_name(
    fakes: FakeProviders, providers: Providers, reason: StopReason, stop: str
) -> None:
    fakes.script("*", Turn([Text("Well."), Stop(reason)]))
    step: Step = await Conversation(providers, access("anthropic", fakes)).say("hi")
    assert step.stop == stop


async def test_a_paused_turn_goes_on_where_it_stopped(
    fakes: FakeProviders, providers: Providers
) -> None:
    search = ServerToolSearch("sea", [SearchResult("https://a.example", "A")])
    paused = Turn([Text("Searching."), search, Stop("pause")])
    fakes.script("*", [paused, Turn([Text("Found.")])])
    chat = Conversation(providers, access("anthropic", fakes))
    first = await chat.say("hi")
    second = await chat.step()
    assert (first.stop, second.text) == ("pause", "Found.")
    assert [m.role for m in fakes.requests[1].view.messages] == ["user", "assistant"]


@pytest.mark.parametrize("kind", ["responses", "chat", "gemini"])
async def test_another_model_is_asked_to_go_on_with_a_paused_turn(
    kind: Kind, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", [Turn([Text("Searching."), Stop("pause")]), Turn([Text("Found.")])])
    chat = Conversation(providers, access("anthropic", fakes))
    await chat.say("hi")
    chat.model = access(kind, fakes)
    fakes.script(chat.model.model_id, Turn([Text("I go on.")]))
    assert (await chat.step()).text == "I go on."
    assert not fakes.refused


@pytest.mark.parametrize("reason", ["provider_disabled", "missing_key", "config"])
async def test_a_model_that_cannot_be_called_fails_before_any_request(
    kind: Kind, fakes: FakeProviders, providers: Providers, reason: ErrorKind
) -> None:
    model = msgspec.json.decode(
        msgspec.json.encode(access(kind, fakes)).replace(
            b"}", b',"disabled":"%b"}' % reason.encode()
        ),
        type=ModelAccess,
    )
    failure = (await failed(Conversation(providers, model))).error
    assert (failure.kind, failure.retryable) == (reason, False)
    assert not fakes.requests


async def test_a_stream_without_a_key_needs_none(
    kind: Kind, fakes: FakeProviders, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC", "OPENAI", "GEMINI", "GOOGLE"):
        monkeypatch.setenv(f"{name}_API_KEY", "invalid-from-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-host")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-leak: yes")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-leak: yes")
    fakes.script("*", HELLO)
    model = msgspec.structs.replace(
        access(kind, fakes), api_key=None, name=ModelName(f"{kind}/keyless")
    )
    step = await Conversation(providers, model).say("hi")
    assert step.text == "Hello there, dear world."
    sent = fakes.requests[0].headers
    assert "x-leak" not in sent
    assert "openai-organization" not in sent
    assert not any("environment" in value for value in sent.values())


async def test_a_connection_is_used_again_for_the_next_step(
    chat: Conversation, fakes: FakeProviders
) -> None:
    fakes.script("*", HELLO)
    for _ in range(3):
        await chat.say("hi")
    connections = fakes._connections  # pyright: ignore[reportPrivateUsage]  # said nowhere else
    assert len(connections) == 1


def test_deltas_are_small() -> None:
    assert msgspec.json.encode(TextDelta(0, "x")) == b'{"type":"text","index":0,"text":"x"}'
