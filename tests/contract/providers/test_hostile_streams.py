"""Whatever a server sends: the same parts however the bytes are cut, and never anything malformed.

A server may be broken, old, new or hostile. An event that cannot be understood is an error of that
provider, with a name; it is never stored, and never an error of ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import pytest
from contract.providers.harness import ADD, CHAT, KINDS, MODELS, NOW, access_to, fold
from fakes.script import (
    Citation,
    Item,
    Kind,
    Reasoning,
    SearchResult,
    ServerToolSearch,
    Text,
    ToolCall,
    Turn,
    Usage,
)
from fakes.server import WIRES
from fakes.wire import HttpRequest, Ids, Issued
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
from steersman_chatloop.providers.base import StepEnded, StepEvent, StepNamed, StepRequest, name_of
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import ReportedFault, StreamFault
from steersman_chatloop.providers.sse import Reader
from steersman_chatloop.providers.streaming import sound
from steersman_contracts.chats import Message, Role
from steersman_contracts.chats import Usage as StepUsage
from steersman_contracts.deltas import Delta, PartClosed, PartsBuilder
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import (
    JsonObject,
    Parts,
    TextPart,
    ToolCallPart,
    decode_parts,
    encode_parts,
)

MODULES: Final[dict[Kind, tuple[Any, Any]]] = {
    "anthropic": (anthropic_request, anthropic_events),
    "responses": (openai_responses_request, openai_responses_events),
    "chat": (openai_chat_request, openai_chat_events),
    "gemini": (google_request, google_events),
}
PATHS: Final[dict[Kind, str]] = {
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "gemini": "/v1beta/models/{model}:streamGenerateContent",
}
ODD: Final = "nul \x00, e\u0301, \U0001f600 and \u2028 a line"
ITEMS: Final[list[Item]] = [
    Reasoning(f"Hm. {ODD}"),
    ServerToolSearch("what", [SearchResult("https://a.example", "A")]),
    Text(f"It is so. {ODD}", [Citation("https://a.example", "A")]),
    ToolCall("add", {"a": 1, "note": ODD}),
    ToolCall("add", {}),
    Usage(input=10, output=5, reasoning=2, cache_read=1),
]


def frames(kind: Kind) -> Sequence[bytes]:
    """A rich answer as the strict server sends it."""
    said = Message(MessageId(1), Role.USER, (TextPart("hi"),), 1, NOW)
    url = "https://api.anthropic.com" if kind == "anthropic" else "http://x"
    asked = StepRequest(CHAT, access_to(kind, url), "Be brief.", prepare([said]), (ADD,))
    body = MODULES[kind][0].to_request(asked)
    path = PATHS[kind].format(model=MODELS[kind])
    headers = {
        "authorization": "Bearer any-key",
        "anthropic-version": "2026-10-21",
        "x-goog-api-key": "any-key",
        "content-type": "application/json",
    }
    request = HttpRequest("POST", path, {"alt": "sse"}, headers, msgspec.json.encode(body))
    issued = Issued()
    call = WIRES[kind].parse(request, issued)
    return WIRES[kind].render(Turn(ITEMS, chunk_chars=7), call, Ids(), issued).frames


FRAMES: Final = {kind: frames(kind) for kind in KINDS}


def translator_of(kind: Kind) -> Any:
    model = access_to(kind, "http://x")
    count = iter(range(1000))
    ids = CallIds(make=lambda: f"made-{next(count)}")
    return MODULES[kind][1].Translator(Origin(model.provider_type, model), ids)


def translated(kind: Kind, events: Sequence[Any]) -> list[StepEvent]:
    translator = translator_of(kind)
    out: list[StepEvent] = []
    for event in events:
        out += translator.feed(copy.deepcopy(event))
    out += translator.end()
    return out


def read(*chunks: bytes) -> list[JsonObject]:
    reader = Reader()
    found = [event for chunk in chunks for event in reader.feed(chunk)]
    return found + reader.end()


EVENTS: Final = {kind: read(*FRAMES[kind]) for kind in KINDS}


def parts_of(events: Sequence[StepEvent]) -> Parts:
    ended = events[-1]
    assert isinstance(ended, StepEnded)
    return fold(events[:-1])


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def crlf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def noisy(data: bytes) -> list[bytes]:
    """Comments and fields that nobody knows, before every line of data."""
    return [data.replace(b"data:", b": ping\n\n:\nretry: 5\nx-new: {\ndata:")]


RENDERINGS: Final[dict[str, Callable[[bytes], list[bytes]]]] = {
    "one byte at a time": single,
    "CRLF": lambda data: [crlf(data)],
    "CRLF, one byte at a time": lambda data: single(crlf(data)),
    "comments and unknown fields": noisy,
    "all at once": lambda data: [data],
    "with a byte order mark": lambda data: [b"\xef\xbb\xbf" + data],
}


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_it_does_not_matter_how_the_bytes_come(kind: Kind, rendering: str) -> None:
    chunks = RENDERINGS[rendering](b"".join(FRAMES[kind]))
    events = read(*chunks)
    assert events == EVENTS[kind]
    parts = parts_of(translated(kind, events))
    assert "".join(p.text for p in parts if isinstance(p, TextPart)) == f"It is so. {ODD}"
    calls = [p for p in parts if isinstance(p, ToolCallPart) and not p.provider_executed]
    assert [call.arguments for call in calls] == [{"a": 1, "note": ODD}, {}]
    assert decode_parts(encode_parts(parts)) == parts


NEW: Final[list[JsonObject]] = [
    {"type": "brand_new_event", "payload": {"x": [1]}},
    {"type": "response.brand_new.delta", "output_index": 0, "delta": "x", "sequence_number": 3},
    {"type": "response.output_text.brand_new", "output_index": 99, "delta": {"a": 1}},
    {"type": "content_block_delta", "index": 99, "delta": {"type": "new_delta", "x": 1}},
    {"type": "ping"},
    {"object": "new.object", "choices": []},
    {"usageMetadata": {"trafficType": "ON_DEMAND"}},
    {},
]


def test_events_of_kinds_that_nobody_knows_yet_are_read_over(kind: Kind) -> None:
    known = EVENTS[kind]
    mixed = [event for one in known for event in (*NEW, one)]
    assert parts_of(translated(kind, mixed)) == parts_of(translated(kind, known))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in msgspec.convert(value, dict[str, Any]).items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(msgspec.convert(value, list[Any])):
            yield from places(item, (*path, at))


GONE: Final = object()
WRONG: Final[tuple[Any, ...]] = (
    GONE,
    None,
    True,
    7,
    -1.5,
    "",
    "text",
    "\x00",
    [],
    [1],
    ["x"],
    [{}],
    {},
    {"x": {}},
    {"type": "text", "text": 5},
)


def spoiled(event: JsonObject, path: tuple[Any, ...], wrong: Any) -> JsonObject:
    event = copy.deepcopy(event)
    at: Any = event
    for key in path[:-1]:
        at = at[key]
    if wrong is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = copy.deepcopy(wrong)
    return event


@pytest.mark.timeout(300)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_an_event_with_anything_in_it_is_an_error_of_the_provider_or_harmless(
    data: st.DataObject,
) -> None:
    kind = data.draw(st.sampled_from(KINDS), label="kind")
    events = list(EVENTS[kind])
    at = data.draw(st.integers(0, len(events) - 1), label="event")
    path = data.draw(st.sampled_from(list(places(events[at]))), label="place")
    events[at] = spoiled(events[at], path, data.draw(st.sampled_from(WRONG), label="wrong"))
    translator = translator_of(kind)
    out: list[StepEvent] = []
    try:
        for event in events:
            out.extend(map(sound, translator.feed(copy.deepcopy(event))))
        out.extend(map(sound, translator.end()))
    except (StreamFault, ReportedFault, LookupError, TypeError, AttributeError, ValueError):
        pass  # `run` makes an error of the provider of all of them
    well_formed(out)


def well_formed(events: Sequence[StepEvent]) -> None:
    """What came before the error can be shown, stored and read again."""
    deltas = [e for e in events if not isinstance(e, StepEnded | StepNamed | PartClosed)]
    again = msgspec.json.decode(msgspec.json.encode(deltas), type=list[Delta])
    assert again == deltas
    builder = PartsBuilder()
    for event in events:
        if not isinstance(event, StepEnded | StepNamed):
            builder.apply(event)
    parts = builder.parts()
    assert decode_parts(encode_parts(parts)) == parts
    for event in events:
        if isinstance(event, StepEnded):
            counted = msgspec.json.encode(event.usage)
            assert msgspec.json.decode(counted, type=StepUsage | None) == event.usage
            assert len(name_of(event.response_id) or "") <= 200
