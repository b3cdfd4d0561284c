"""What compatible servers do to the wire format of Chat Completions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import pytest

from steersman_chatloop.providers.base import StepEnded, StepEvent, StepNamed
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.openai_chat_events import Translator, merge_details, usage_of
from steersman_chatloop.providers.signals import StreamFault
from steersman_contracts.chats import Usage
from steersman_contracts.deltas import PartsBuilder
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import (
    Parts,
    ProviderMetadata,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from steersman_contracts.rpc.worker import ModelAccess

ACCESS: Final = ModelAccess(ModelName("p/m"), "openai-chat", "p", "m", account="a")
END: Final[dict[str, Any]] = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
CALLED: Final[dict[str, Any]] = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}


def said(**delta: Any) -> dict[str, Any]:
    return {"id": "r", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def calling(*pieces: dict[str, Any]) -> dict[str, Any]:
    return said(tool_calls=list(pieces))


def piece(name: str | None = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    return {**fields, "function": {"name": name, "arguments": arguments}}


def translate(
    chunks: Sequence[dict[str, Any]], *, taken: Sequence[str] = (), keep: bool = False
) -> tuple[Parts, StepEnded, PartsBuilder]:
    numbers = count(1)
    ids = CallIds(taken, make=lambda: f"made_{next(numbers)}")
    translator = Translator(Origin("openai-chat", ACCESS), ids, keep_reasoning=keep)
    events: list[StepEvent] = []
    for chunk in chunks:
        events += translator.feed(chunk)
    events += translator.end()
    ended = events.pop()
    assert isinstance(ended, StepEnded)
    builder = PartsBuilder()
    for event in events:
        assert not isinstance(event, StepEnded | StepNamed)
        builder.apply(event)
    return builder.parts(), ended, builder


def calls(parts: Parts) -> list[tuple[str, str, dict[str, Any]]]:
    return [(p.call_id, p.tool, p.arguments) for p in parts if isinstance(p, ToolCallPart)]


def test_parallel_calls_at_the_same_place_are_told_apart_by_their_ids() -> None:
    parts, ended, _ = translate(
        [
            calling(piece("add", '{"a":', index=0, id="x")),
            calling(piece(None, "1}", index=0)),
            calling(piece("add", '{"a":2}', index=0, id="y")),
            END,
        ]
    )
    assert calls(parts) == [("x", "add", {"a": 1}), ("y", "add", {"a": 2})]
    assert ended.stop == "tool-calls"


def test_parallel_calls_without_place_or_id_begin_with_a_name() -> None:
    parts, _, _ = translate(
        [calling(piece("add", '{"a":1}'), piece("add", '{"a":2}'), piece("sub", '{"a":3}')), END]
    )
    assert calls(parts) == [
        ("made_1", "add", {"a": 1}),
        ("made_2", "add", {"a": 2}),
        ("made_3", "sub", {"a": 3}),
    ]


def test_a_name_that_is_repeated_with_every_piece_opens_nothing() -> None:
    parts, _, _ = translate(
        [
            calling(piece("add", '{"a"', index=0, id="x")),
            calling(piece("add", ":1", index=0, id="x")),
            calling(piece("add", "}", index=0, id="")),
            CALLED,
        ]
    )
    assert calls(parts) == [("x", "add", {"a": 1})]


def test_pieces_without_a_place_follow_their_id() -> None:
    parts, _, _ = translate(
        [
            calling(piece("add", '{"a":', id="x")),
            calling(piece(None, "1}", id="x")),
            calling(piece("add", '{"a":2}', id="y")),
            CALLED,
        ]
    )
    assert calls(parts) == [("x", "add", {"a": 1}), ("y", "add", {"a": 2})]


def test_interleaved_pieces_go_to_their_place() -> None:
    parts, _, _ = translate(
        [
            calling(piece("add", "", index=0, id="x"), piece("sub", "", index=1, id="y")),
            calling(piece(None, '{"b":2}', index=1)),
            calling(piece(None, '{"a":1}', index=0)),
            CALLED,
        ]
    )
    assert calls(parts) == [("x", "add", {"a": 1}), ("y", "sub", {"b": 2})]


def test_a_name_may_come_after_the_id() -> None:
    parts, _, _ = translate(
        [
            calling({"index": 0, "id": "x", "type": "function", "function": {}}),
            calling({"index": 0, "function": {"arguments": '{"a"'}}),
            calling(piece("add", ":1}", index=0)),
            CALLED,
        ]
    )
    assert calls(parts) == [("x", "add", {"a": 1})]


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}', '{\n"a":1}'])
def test_arguments_may_be_an_object(arguments: Any) -> None:
    parts, _, _ = translate([calling(piece("add", arguments, index=0, id="x")), CALLED])
    assert calls(parts) == [("x", "add", {"a": 1})]


@pytest.mark.parametrize("arguments", [None, "", "null", "{}"])
def test_no_arguments_have_many_names(arguments: Any) -> None:
    parts, _, _ = translate([calling(piece("now", arguments, index=0, id="x")), CALLED])
    assert calls(parts) == [("x", "now", {})]


def test_an_id_that_the_chat_has_already_is_replaced() -> None:
    parts, _, _ = translate(
        [calling(piece("add", "{}", index=0, id="call_0")), CALLED], taken=["call_0"]
    )
    assert calls(parts) == [("made_1", "add", {})]


def test_a_call_without_a_name_is_none() -> None:
    with pytest.raises(StreamFault) as caught:
        translate([calling({"index": 0, "id": "x"}), CALLED])
    assert caught.value.code == "empty_answer"


def test_text_after_calls_is_a_part_of_its_own() -> None:
    parts, _, _ = translate(
        [
            said(content="before"),
            calling(piece("add", "{}", index=0, id="x")),
            said(content="after"),
            CALLED,
        ]
    )
    assert [type(part) for part in parts] == [TextPart, ToolCallPart, TextPart]


def test_unknown_keys_of_a_call_go_back_with_it() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    parts, _, _ = translate(
        [calling(piece("add", "{}", index=0, id="x", extra_content=extra)), CALLED]
    )
    (part,) = parts
    assert isinstance(part, ToolCallPart)
    assert part.provider_metadata == ProviderMetadata(
        "openai-chat", "a", "m", {"extra_content": extra}
    )


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(key: str) -> None:
    chunks = [said(**{key: "I "}), said(**{key: "think"}, content=""), said(content="so"), END]
    parts, _, _ = translate(chunks)
    assert parts == (ReasoningPart("I think"), TextPart("so"))
    kept, _, _ = translate(chunks, keep=True)
    assert kept[0] == ReasoningPart("I think", ProviderMetadata("openai-chat", "a", "m", {}))


def test_reasoning_details_are_joined_and_shown_once() -> None:
    parts, _, _ = translate(
        [
            said(
                reasoning="I ",
                reasoning_details=[
                    {"type": "reasoning.text", "text": "I ", "index": 0, "signature": ""}
                ],
            ),
            said(reasoning_details=[{"type": "reasoning.text", "text": "am", "index": 0}]),
            said(reasoning_details=[{"type": "reasoning.text", "signature": "sig", "index": 0}]),
            said(reasoning_details=[{"type": "reasoning.encrypted", "data": "xyz", "index": 1}]),
            said(content="so"),
            END,
        ]
    )
    reasoning = parts[0]
    assert isinstance(reasoning, ReasoningPart)
    assert reasoning.text == "I am"
    assert reasoning.provider_metadata is not None
    assert reasoning.provider_metadata.native == {
        "reasoning_details": [
            {"type": "reasoning.text", "text": "I am", "index": 0, "signature": "sig"},
            {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
        ]
    }


def test_details_with_another_id_are_another_block() -> None:
    merged: list[dict[str, Any]] = []
    merge_details(merged, [{"type": "reasoning.summary", "summary": "a", "index": 0, "id": "1"}])
    merge_details(merged, [{"type": "reasoning.summary", "summary": "b", "index": 0, "id": "2"}])
    assert [block["summary"] for block in merged] == ["a", "b"]


def test_content_may_be_a_list_of_blocks() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts, _, _ = translate(
        [said(content=[thinking]), said(content=[{"type": "text", "text": "so"}]), END]
    )
    assert parts == (ReasoningPart("hm"), TextPart("so"))


def test_a_refusal_is_text() -> None:
    parts, ended, _ = translate([said(refusal="I "), said(refusal="cannot"), END])
    assert parts == (TextPart("I cannot"),)
    assert ended.stop == "refusal"


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "end"),
        ("eos", "end"),
        ("tool_calls", "end"),
        ("function_call", "end"),
        ("length", "max-tokens"),
        ("model_length", "max-tokens"),
        ("content_filter", "content-filter"),
        ("unheard_of", "unknown"),
    ],
)
def test_reasons_for_stopping_have_one_name(finish: str, stop: str) -> None:
    end: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": finish}]}
    _, ended, _ = translate([said(content="x"), end])
    assert ended.stop == stop


@pytest.mark.parametrize(
    ("finish", "code"),
    [
        ("error", "server_error"),
        ("network_error", "network_error"),
        ("insufficient_system_resource", "insufficient_system_resource"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "malformed_call"),
    ],
)
def test_some_reasons_for_stopping_are_failures(finish: str, code: str) -> None:
    with pytest.raises(StreamFault) as caught:
        translate([said(content="x"), {"choices": [{"delta": {}, "finish_reason": finish}]}])
    assert caught.value.code == code


def test_a_repeated_finish_and_running_usage_are_counted_once() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    _, ended, _ = translate(
        [
            {"choices": [], "prompt_filter_results": []},
            {**said(content="x"), "usage": {"prompt_tokens": 10, "completion_tokens": 1}},
            {**END, "usage": usage, "x_groq": {"usage": usage}},
            {**END, "usage": usage},
            {"choices": [], "usage": usage},
        ]
    )
    assert ended.usage == Usage(10, 5)
    assert ended.stop == "end"


def test_usage_may_stand_in_the_corner_of_groq() -> None:
    _, ended, _ = translate(
        [
            said(content="x"),
            {**END, "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}},
        ]
    )
    assert ended.usage == Usage(3, 1)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ({}, Usage()),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 14,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 5, 3),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 8, 3),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 14,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(9, 35, 30),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            },
            Usage(9, 5, 0, 4, 2),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4},
            Usage(9, 5, 0, 4),
        ),
        ({"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None}, Usage(9)),
    ],
)
def test_usage_is_counted_alike(usage: dict[str, Any] | None, expected: Usage | None) -> None:
    assert usage_of(usage) == expected


def test_the_stream_must_finish() -> None:
    with pytest.raises(StreamFault) as caught:
        translate([said(content="x")])
    assert caught.value.code == "truncated"


@pytest.mark.parametrize(
    ("finish", "stop", "is_cut"),
    [
        ("length", "max-tokens", True),
        ("content_filter", "content-filter", True),
        ("abort", "unknown", True),
        ("stop", "tool-calls", False),
        ("", "tool-calls", False),
        ("tool_calls", "tool-calls", False),
    ],
)
def test_what_cuts_an_answer_off_leaves_only_the_last_call_open(
    finish: str, stop: str, *, is_cut: bool
) -> None:
    end: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": finish}]}
    _, ended, builder = translate(
        [calling(piece("add", "{}", index=0, id="x"), piece("add", "", index=1, id="y")), end]
    )
    assert (ended.stop, builder.unclosed_calls()) == (stop, {"y"} if is_cut else set())
