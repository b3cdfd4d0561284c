"""Characters that were cut in two between two events come out whole, wherever that was."""

from __future__ import annotations

import base64
import json
import struct
from binascii import crc32
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_chatloop.providers import (
    anthropic_events,
    google_events,
    openai_chat_events,
    openai_responses_events,
)
from steersman_chatloop.providers.aws import EventReader
from steersman_chatloop.providers.base import StepEnded, StepNamed
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.sse import Reader
from steersman_contracts.deltas import PartsBuilder
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import JsonObject, ReasoningPart, TextPart, ToolCallPart
from steersman_contracts.rpc.worker import ModelAccess

ACCESS = ModelAccess(ModelName("p/m"), "anthropic", "p", "m")
SMILE = "\U0001f600"
HIGH, LOW = "\ud83d", "\ude00"


def frames(events: Sequence[JsonObject]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def read(events: Sequence[JsonObject]) -> list[JsonObject]:
    reader = Reader()
    return reader.feed(frames(events)) + reader.end()


def texts(*said: str) -> list[JsonObject]:
    return [{"type": "d", "index": 0, "delta": {"text": text}} for text in said]


def said(events: Sequence[JsonObject]) -> list[str]:
    return [event["delta"]["text"] for event in events]


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        (["a" + HIGH, LOW + "b"], ["a" + SMILE, "b"]),
        ([HIGH, LOW], [SMILE, ""]),
        ([HIGH, LOW + HIGH, LOW], [SMILE, SMILE, ""]),
        (["a" + HIGH, "b"], ["a\ufffd", "b"]),
        (["a" + HIGH], ["a\ufffd"]),
        ([LOW + "b"], ["\ufffdb"]),
        ([HIGH, HIGH, LOW], ["\ufffd", SMILE, ""]),
        ([LOW, HIGH], ["\ufffd", "\ufffd"]),
        (["a" + HIGH + "b" + HIGH, LOW], ["a\ufffdb" + SMILE, ""]),
    ],
)
def test_two_halves_at_a_seam_are_one_character(cut: list[str], whole: list[str]) -> None:
    assert said(read(texts(*cut))) == whole


@given(st.text(), st.lists(st.integers(0, 50), max_size=8))
def test_a_text_that_is_cut_anywhere_in_utf_16_is_the_same_text(text: str, at: list[int]) -> None:
    units = text.encode("utf-16-le")
    seams = sorted({0, len(units), *(2 * n for n in at if 2 * n < len(units))})
    pieces = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(seams)]
    found = said(read(texts(*pieces)))
    assert "".join(found) == text
    assert len(found) == len(pieces)


def test_what_comes_between_two_halves() -> None:
    ping: JsonObject = {"type": "ping"}
    stop: JsonObject = {"type": "stop", "index": 0}
    high, low = texts(HIGH, LOW)
    shown = texts("\ufffd")[0]

    assert read([high, ping, low]) == [ping, *texts(SMILE, "")]
    assert read([high, stop, low]) == [shown, stop, shown]
    assert read([high, low | {"index": 1}]) == [shown, shown | {"index": 1}]
    reader = Reader()
    assert reader.feed(frames([high]) + b"data: [DONE]\n\n") == [shown]
    assert reader.end() == []


def chat(**delta: Any) -> JsonObject:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def arguments(text: str) -> JsonObject:
    return {"index": 0, "function": {"arguments": text}}


def block(delta: JsonObject) -> JsonObject:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def item(kind: str, **more: Any) -> JsonObject:
    return {"type": f"response.{kind}", "output_index": 0, **more}


def gemini(*parts: JsonObject, **more: Any) -> JsonObject:
    return {"candidates": [{"content": {"parts": list(parts)}, **more}]}


MESSAGE: JsonObject = {"type": "message", "id": "msg_1"}
STREAMS: dict[str, tuple[Any, list[JsonObject], tuple[Any, ...]]] = {
    "anthropic": (
        anthropic_events,
        [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
            block({"type": "thinking_delta", "thinking": "h" + HIGH}),
            block({"type": "thinking_delta", "thinking": LOW}),
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
            block({"type": "text_delta", "text": "a" + HIGH}),
            block({"type": "text_delta", "text": LOW + "b" + HIGH}),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "c1", "name": "t", "input": {}},
            },
            block({"type": "input_json_delta", "partial_json": '{"x": "' + HIGH}),
            block({"type": "input_json_delta", "partial_json": LOW + '"}'}),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            {"type": "message_stop"},
        ],
        (ReasoningPart, TextPart, ToolCallPart),
    ),
    "openai-chat": (
        openai_chat_events,
        [
            chat(reasoning_content="h" + HIGH),
            chat(reasoning_content=LOW),
            chat(content="a" + HIGH),
            chat(content=LOW + "b" + HIGH),
            chat(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "t"}}]),
            chat(tool_calls=[arguments('{"x": "' + HIGH)]),
            chat(tool_calls=[arguments(LOW + '"}')]),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        ],
        (ReasoningPart, TextPart, ToolCallPart),
    ),
    "openai-responses": (
        openai_responses_events,
        [
            item("output_item.added", item=MESSAGE),
            item("output_text.delta", content_index=0, delta="a" + HIGH),
            item("output_text.delta", content_index=0, delta=LOW + "b" + HIGH),
            item("output_item.done", item=MESSAGE | {"content": []}),
            item(
                "output_item.added",
                item={"type": "function_call", "call_id": "c1", "name": "t"},
            ),
            item("function_call_arguments.delta", delta='{"x": "' + HIGH),
            item("function_call_arguments.delta", delta=LOW + '"}'),
            item("output_item.done", item={"type": "function_call", "call_id": "c1", "name": "t"}),
            {"type": "response.completed", "response": {"id": "r", "status": "completed"}},
        ],
        (TextPart, ToolCallPart),
    ),
    "google": (
        google_events,
        [
            gemini({"text": "h" + HIGH, "thought": True}),
            gemini({"text": LOW, "thought": True}),
            gemini({"text": "a" + HIGH}),
            gemini({"text": LOW + "b" + HIGH, "thoughtSignature": "c2ln"}),
            gemini({"functionCall": {"name": "t", "args": {"x": SMILE}}}, finishReason="STOP"),
        ],
        (ReasoningPart, TextPart, ToolCallPart),
    ),
}


def folded(kind: str, events: Sequence[JsonObject]) -> tuple[Any, ...]:
    translator = STREAMS[kind][0].Translator(Origin(kind, ACCESS), CallIds())
    builder = PartsBuilder()
    for made in [*map(translator.feed, events), translator.end()]:
        for delta in made:
            if not isinstance(delta, StepEnded | StepNamed):
                builder.apply(delta)
    return builder.parts()


@pytest.mark.parametrize("kind", STREAMS)
def test_every_format_shows_the_character(kind: str) -> None:
    _, events, kinds = STREAMS[kind]

    parts = folded(kind, read(events))

    assert tuple(map(type, parts)) == kinds
    *thought, text, call = parts
    assert [part.text for part in thought] == ["h" + SMILE] * len(thought)
    assert text.text == "a" + SMILE + "b\ufffd"
    assert call.arguments == {"x": SMILE}
    if kind == "google":  # each signature has its own piece of what is stored
        segments = text.provider_metadata.native["segments"]
        assert sum(segment["length"] for segment in segments) == len(text.text)
        assert [segment.get("thoughtSignature") for segment in segments] == [None, "c2ln"]


def wrapped(event: JsonObject) -> bytes:
    """As Bedrock frames it."""
    inner = base64.b64encode(json.dumps(event).encode()).decode()
    payload = json.dumps({"bytes": inner}).encode()
    name, value = b":message-type", b"event"
    headers = bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
    prelude = struct.pack(">II", 12 + len(headers) + len(payload) + 4, len(headers))
    prelude += struct.pack(">I", crc32(prelude))
    message = prelude + headers + payload
    return message + struct.pack(">I", crc32(message))


def test_bedrock_shows_the_character() -> None:
    _, events, _ = STREAMS["anthropic"]
    reader = EventReader()
    found = [event for one in map(wrapped, events) for event in reader.feed(one)]

    assert found + reader.end() == read(events)

    assert reader.feed(wrapped(texts("a" + HIGH)[0])) == []
    assert reader.end() == texts("a\ufffd")
