"""Whatever happened in a chat, every provider accepts what we send next.

The strict validators of the fakes judge; their renderings are cut at any frame, as an interrupt or
a dying connection would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import pytest
from contract.providers.harness import ADD, CHAT, KINDS, MODELS, NOW, access_to
from fakes.script import Item as FakeItem
from fakes.script import Kind, Plan, Reasoning, SearchResult, ServerToolSearch, Text, ToolCall, Turn
from fakes.server import WIRES
from fakes.wire import Call, HttpRequest, Ids, Issued
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman_chatloop.prompt import prepare
from steersman_chatloop.providers import (
    anthropic_events,
    anthropic_request,
    google_events,
    google_request,
    openai_chat_events,
    openai_chat_request,
    openai_responses_events,
    openai_responses_request,
)
from steersman_chatloop.providers.base import StepEnded, StepRequest
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import StreamFault
from steersman_contracts.chats import Message, Role, StopReason
from steersman_contracts.deltas import PartsBuilder
from steersman_contracts.ids import MessageId
from steersman_contracts.model_options import EFFORTS, Effort
from steersman_contracts.option_rules import parse_settings
from steersman_contracts.parts import (
    ContextFilePart,
    FilePart,
    FileReferencePart,
    JsonObject,
    JsonPart,
    Part,
    Parts,
    ProviderMetadata,
    ReasoningPart,
    SkillPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    decode_parts,
    encode_parts,
)
from steersman_contracts.rpc.worker import ModelAccess

TO_REQUEST: Final[dict[Kind, Callable[[StepRequest], JsonObject]]] = {
    "anthropic": anthropic_request.to_request,
    "responses": openai_responses_request.to_request,
    "chat": openai_chat_request.to_request,
    "gemini": google_request.to_request,
}
PATHS: Final[dict[Kind, str]] = {
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "gemini": "/v1beta/models/{model}:streamGenerateContent",
}
HEADERS: Final = {
    "authorization": "Bearer any-key",
    "anthropic-version": "2026-10-21",
    "x-goog-api-key": "any-key",
    "content-type": "application/json",
}


def usual(kind: Kind) -> ModelAccess:
    return access_to(kind, "https://api.anthropic.com" if kind == "anthropic" else "http://x")


def asked(history: Sequence[Message], model: ModelAccess) -> StepRequest:
    return StepRequest(CHAT, model, "Be brief.", prepare(history), (ADD,))


def accepted(
    kind: Kind, history: Sequence[Message], issued: Issued, model: ModelAccess | None = None
) -> Call:
    """Send the history to a provider; raises if the provider would refuse it."""
    model = model or usual(kind)
    request = asked(history, model)
    body = TO_REQUEST[kind](request)
    assert TO_REQUEST[kind](request) == body, "the same history is the same request"
    stored = [
        msgspec.structs.replace(m, parts=decode_parts(encode_parts(m.parts))) for m in history
    ]
    reloaded = msgspec.structs.replace(request, messages=prepare(stored))
    assert TO_REQUEST[kind](reloaded) == body, "from memory and from storage alike"
    path = PATHS[kind].format(model=model.model_id)
    raw = msgspec.json.encode(body)
    older = {} if model.base_url != "http://x" else {"anthropic-version": "2023-06-01"}
    sent = HttpRequest("POST", path, {"alt": "sse"}, HEADERS | older, raw)
    return WIRES[kind].parse(sent, issued)


def translate(
    kind: Kind, plan: Plan, cut: int, history: Sequence[Message]
) -> tuple[Parts, StopReason | None]:
    """What is kept of the first `cut` frames of an answer."""
    origin = Origin(access_to(kind, "http://x").provider_type, access_to(kind, "http://x"))
    taken = [p.call_id for m in history for p in m.parts if isinstance(p, ToolCallPart)]
    ids = CallIds(taken)
    translator: Any = {
        "anthropic": anthropic_events.Translator,
        "responses": openai_responses_events.Translator,
        "chat": openai_chat_events.Translator,
        "gemini": google_events.Translator,
    }[kind](origin, ids)
    builder = PartsBuilder()
    stop = None
    for event in events(plan.frames[:cut]):
        for step_event in translator.feed(event):
            builder.apply(step_event)
    # An answer with nothing in it is a failure, and keeps what there is, as any other does.
    with suppress(StreamFault):
        for step_event in translator.end():
            if isinstance(step_event, StepEnded):
                stop = step_event.stop
            else:
                builder.apply(step_event)
    return builder.parts(), stop


def events(frames: Sequence[bytes]) -> Iterator[Any]:
    for line in b"".join(frames).splitlines():
        data = line.removeprefix(b"data: ")
        if data == line or data == b"[DONE]":
            continue
        yield msgspec.json.decode(data)


texts = st.text(max_size=12) | st.sampled_from(["", " ", "\n", "Hello there", "\ud7ff\u0000"])
words = st.text(alphabet="ab cd\n", min_size=1, max_size=12).filter(str.strip)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=3)
foreign = st.none() | st.builds(
    ProviderMetadata,
    st.sampled_from(["anthropic", "openai-responses", "openai-chat", "google", "elsewhere"]),
    st.just("another account"),
    st.sampled_from([*MODELS.values()]),
    st.none() | objects,
)
call_ids = st.sampled_from(["c1", "c2", "functions.add:0", "x" * 150, "ü"]) | st.text(
    min_size=1, max_size=70
)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True) | st.just("add")
files = st.builds(
    FilePart,
    st.sampled_from(["image/png", "image/tiff", "application/pdf", "text/plain"]),
    st.text(max_size=5),
    st.none(),
    st.none() | st.binary(min_size=0, max_size=4),
)
text_parts = st.builds(TextPart, texts, foreign)
contents = st.lists(text_parts | st.builds(JsonPart, values) | files, max_size=3).map(tuple)
results = st.builds(
    ToolResultPart, call_ids, names, contents, st.booleans(), st.booleans(), st.none(), foreign
)
calls = st.builds(
    ToolCallPart, call_ids, names, objects, st.booleans(), st.none() | st.text(max_size=5), foreign
)
references = st.builds(FileReferencePart, words, st.just(1), st.integers(1, 9), texts)
any_parts = (
    text_parts
    | st.builds(ReasoningPart, texts, foreign)
    | calls
    | results
    | files
    | references
    | st.builds(SourcePart, words, texts)
    | st.builds(ContextFilePart, words, texts)
    | st.builds(SkillPart, words, texts)
)
roles = st.sampled_from(Role)
stops = st.sampled_from([None, "end", "pause", "tool-calls", "interrupted"])


def message(role: Role, parts: Sequence[Part], stop: Any = None) -> Message:
    return Message(MessageId(1), role, tuple(parts), 1, NOW, stop=stop)


any_messages = st.builds(message, roles, st.lists(any_parts, max_size=4), stops)

slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow
@pytest.mark.timeout(600)  # for shrinking a failure
@given(st.lists(any_messages, min_size=1, max_size=6))
def test_any_parts_in_any_order_are_accepted(history: list[Message]) -> None:
    if not prepare(history):
        return  # nothing was said
    for kind in KINDS:
        accepted(kind, history, Issued())


items = st.lists(
    st.builds(Text, words)
    | st.builds(Reasoning, words)
    | st.builds(Reasoning, words, st.none(), st.just(value=True))
    | st.builds(ToolCall, st.just("add"), objects)
    | st.builds(ToolCall, st.just("add"), st.just({}), st.none(), st.sampled_from(["{", "[1]", ""]))
    | st.builds(
        ServerToolSearch,
        words,
        st.lists(st.builds(SearchResult, st.just("https://a.example"), words), max_size=2),
    ),
    min_size=1,
    max_size=5,
)


@slow
@pytest.mark.timeout(600)  # for shrinking a failure
@given(st.data())
def test_any_course_of_a_chat_is_accepted(data: st.DataObject) -> None:
    """Steps of changing models, cut anywhere, with results missing, doubled or out of order."""
    issued, ids = Issued(), Ids()
    history = [message(Role.USER, [TextPart("hi")])]
    for _ in range(data.draw(st.integers(1, 4), label="steps")):
        kind = data.draw(st.sampled_from(KINDS), label="model")
        call = accepted(kind, history, issued)
        drawn: Sequence[FakeItem] = data.draw(items, label="turn")
        plan = WIRES[kind].render(Turn(drawn, chunk_chars=3), call, ids, issued)
        whole = st.just(len(plan.frames))
        cut = data.draw(whole | st.integers(0, len(plan.frames)), label="cut")
        parts, stop = translate(kind, plan, cut, history)
        name = access_to(kind, "http://x").name
        history.append(msgspec.structs.replace(message(Role.ASSISTANT, parts, stop), model=name))
        answers = [
            ToolResultPart(part.call_id, part.tool, data.draw(contents))
            for part in parts
            if isinstance(part, ToolCallPart) and not part.provider_executed
        ]
        some = st.lists(st.sampled_from(answers), max_size=4) if answers else st.just([])
        given_back = data.draw(st.just(answers) | some, label="results")
        if given_back:
            history.append(message(Role.TOOL, given_back))
        if data.draw(st.booleans(), label="user goes on"):
            history.append(message(Role.USER, [TextPart(data.draw(words))]))
    for kind in KINDS:
        accepted(kind, history, issued)


NAMES: Final[dict[Kind, list[str]]] = {
    "anthropic": ["claude-sonnet-5-5", "claude-opus-4-1", "claude-3-5-haiku-latest", "mine"],
    "responses": ["gpt-5.6", "gpt-5", "o4-mini", "gpt-4o"],
    "chat": ["compatible-1", "openrouter/x"],
    "gemini": ["gemini-3-pro", "gemini-2.5-flash", "gemini-2.0-flash"],
}


def both(first: JsonObject, second: JsonObject) -> JsonObject:
    return first | second


maybe = st.none() | st.booleans()
domains = st.lists(st.sampled_from(["a.example", "b.example/path"]), max_size=2)
efforts = st.none() | st.sampled_from(EFFORTS)
budgets = st.fixed_dictionaries(
    {"thinking": st.just("enabled")}, optional={"thinking_budget_tokens": st.integers(1024, 9000)}
)
modes = st.fixed_dictionaries(
    {},
    optional={
        "thinking": st.just("adaptive"),
        "thinking_display": st.sampled_from(["summarized", "omitted"]),
        "effort": st.sampled_from(["low", "max"]),
    },
) | st.just({"thinking": "disabled"})
OPTIONS: Final[dict[Kind, st.SearchStrategy[JsonObject]]] = {
    "anthropic": st.builds(
        both,
        st.fixed_dictionaries(
            {},
            optional={
                "web_search_enabled": st.booleans(),
                "allowed_domains": domains,
                "disable_parallel_tool_use": st.booleans(),
                "send_reasoning": st.booleans(),
            },
        ),
        budgets | modes,
    ),
    "responses": st.fixed_dictionaries(
        {},
        optional={
            "web_search_enabled": st.booleans(),
            "allowed_domains": domains,
            "search_context_size": st.sampled_from(["low", "high"]),
            "logprobs": st.sampled_from([None, True]),
            "top_logprobs": st.none() | st.integers(0, 20),
            "max_tool_calls": st.none() | st.integers(1, 9),
            "parallel_tool_calls": maybe,
            "reasoning_summary": st.sampled_from([None, "auto", "detailed"]),
            "max_completion_tokens": st.none() | st.integers(1, 5000),
            "text_verbosity": st.sampled_from([None, "low"]),
            "store": maybe,
            "chain_responses": st.booleans(),
            "strict_json_schema": st.booleans(),
            "metadata": st.none() | st.just({"a": "b"}),
        },
    ),
    "chat": st.fixed_dictionaries(
        {},
        optional={
            "user": st.just("u"),
            "parallel_tool_calls": maybe,
            "top_logprobs": st.none() | st.integers(0, 20),
            "logit_bias": st.none() | st.just({"1": 5}),
            "strict_json_schema": st.booleans(),
            "reasoning": st.none() | st.just({"max_tokens": 9}),
            "instructions": st.just("First."),
        },
    ),
    "gemini": st.fixed_dictionaries(
        {},
        optional={
            "web_search_enabled": st.booleans(),
            "include_thoughts": st.booleans(),
            "thinking_level": st.sampled_from([None, "minimal", "high"]),
        },
    )
    | st.fixed_dictionaries({"thinking_budget": st.integers(-1, 9000)}),
}


def _not_above(pair: tuple[Effort, Effort]) -> JsonObject:
    default, most = sorted(pair, key=EFFORTS.index)
    return {"reasoning_effort": default, "max_reasoning_effort": most}


# A default above the limit is refused when it is written.
limited_efforts = st.tuples(st.sampled_from(EFFORTS), st.sampled_from(EFFORTS)).map(
    _not_above
) | st.sampled_from(["reasoning_effort", "max_reasoning_effort"]).flatmap(
    lambda name: st.fixed_dictionaries({name: efforts})
)


@settings(slow, max_examples=25)
@pytest.mark.timeout(600)  # for shrinking a failure
@given(st.data())
def test_any_settings_are_accepted(data: st.DataObject) -> None:
    for kind in KINDS:
        bases = {"anthropic": ["https://api.anthropic.com", "http://x"]}.get(kind, ["http://x"])
        plain = access_to(
            kind, data.draw(st.sampled_from(bases)), data.draw(st.sampled_from(NAMES[kind]))
        )
        given_settings = {
            "temperature": data.draw(st.none() | st.floats(0, 1)),
            "top_p": data.draw(st.none() | st.floats(0.1, 1)),
            "top_k": data.draw(st.none() | st.integers(1, 50)),
            **data.draw(limited_efforts),
            "options": data.draw(OPTIONS[kind]),
        }
        model = msgspec.structs.replace(
            plain, settings=parse_settings(plain.provider_type, given_settings)
        )
        history = data.draw(st.lists(any_messages, min_size=1, max_size=3))
        if prepare(history):
            accepted(kind, history, Issued(), model)
