"""Corners of the wire formats that the fakes do not render: events in, parts out, request again."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, get_args

import msgspec
import pytest
from openai.types.responses import ResponseOutputItem, ResponseStreamEvent

from steersman_chatloop.providers import (
    anthropic_events,
    anthropic_request,
    google_events,
    google_request,
    openai_chat_request,
    openai_responses_events,
    openai_responses_request,
)
from steersman_chatloop.providers.base import StepEnded, StepEvent, StepNamed, StepRequest
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import StreamFault
from steersman_contracts.chats import Message, Role, StopReason, Usage
from steersman_contracts.deltas import PartsBuilder
from steersman_contracts.ids import ChatId, MessageId, ModelName
from steersman_contracts.parts import (
    FilePart,
    FileReferencePart,
    JsonPart,
    Part,
    Parts,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    decode_parts,
    encode_parts,
)
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.worker import ModelAccess

NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
PNG: Final = b"\x89PNG"
PNG_64: Final = base64.b64encode(PNG).decode()


def access(kind: ProviderType, model: str = "m-1", base_url: str | None = None) -> ModelAccess:
    return ModelAccess(ModelName("p/m"), kind, "p", model, base_url=base_url, account="a")


def request(model: ModelAccess, *messages: tuple[Role, Sequence[Part]]) -> StepRequest:
    history = tuple(
        Message(MessageId(1), role, decode_parts(encode_parts(parts)), 1, NOW, model=model.name)
        for role, parts in messages
    )
    return StepRequest(ChatId("chat-1"), model, "", history, ())


def fold(translator: Any, events: Sequence[Any]) -> tuple[Parts, StepEnded, PartsBuilder]:
    out: list[StepEvent] = []
    for event in events:
        out += translator.feed(event)
    out += translator.end()
    ended = out.pop()
    assert isinstance(ended, StepEnded)
    builder = PartsBuilder()
    for event in out:
        assert not isinstance(event, StepEnded | StepNamed)
        builder.apply(event)
    return builder.parts(), ended, builder


def fault_of(translator: Any, events: Sequence[Any]) -> str:
    with pytest.raises(StreamFault) as caught:
        fold(translator, events)
    return caught.value.code


USER: Final = (Role.USER, [TextPart("hi")])
CLAUDE: Final = access("anthropic")
GPT: Final = access("openai-responses")
GEMINI: Final = access("google", "gemini-3-pro")


def claude() -> anthropic_events.Translator:
    return anthropic_events.Translator(Origin("anthropic", CLAUDE), CallIds())


def gpt() -> openai_responses_events.Translator:
    return openai_responses_events.Translator(Origin("openai-responses", GPT), CallIds())


def gemini() -> google_events.Translator:
    return google_events.Translator(Origin("google", GEMINI), CallIds(make=lambda: "made"))


# Anthropic


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": dict(content)},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def stopped(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage},
        {"type": "message_stop"},
    ]


START: Final[dict[str, Any]] = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1},
    },
}
TEXT: Final = block(9, {"type": "text", "text": ""}, {"type": "text_delta", "text": "so"})


def content_of(parts: Parts) -> list[dict[str, Any]]:
    """The assistant message as it goes back to Anthropic."""
    body = anthropic_request.to_request(request(CLAUDE, USER, (Role.ASSISTANT, parts), USER))
    content: list[dict[str, Any]] = body["messages"][1]["content"]
    return [{k: v for k, v in item.items() if k != "cache_control"} for item in content]


@pytest.mark.parametrize(
    ("content", "deltas", "back"),
    [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": "I "},
                {"type": "thinking_delta", "thinking": "am"},
                {"type": "signature_delta", "signature": "sig"},
            ],
            {"type": "thinking", "thinking": "I am", "signature": "sig"},
        ),
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "signature_delta", "signature": "sig"}],
            {"type": "thinking", "thinking": "", "signature": "sig"},
        ),
        (
            {"type": "redacted_thinking", "data": "xyz"},
            [],
            {"type": "redacted_thinking", "data": "xyz"},
        ),
        (
            {"type": "brand_new", "payload": {"x": [1]}},
            [{"type": "brand_new_delta", "more": "y"}],
            {"type": "brand_new", "payload": {"x": [1]}, "more": "y"},
        ),
        (
            {"type": "brand_new_use", "id": "n1", "input": {}},
            [
                {"type": "input_json_delta", "partial_json": '{"a": '},
                {"type": "input_json_delta", "partial_json": "1}"},
                {"type": "text_delta", "text": "x"},
            ],
            {"type": "brand_new_use", "id": "n1", "input": {"a": 1}, "text": "x"},
        ),
        (
            {"type": "text", "text": "be", "citations": []},
            [
                {
                    "type": "citations_delta",
                    "citation": {"type": "char_location", "cited_text": "c"},
                },
                {"type": "text_delta", "text": "gin"},
            ],
            {
                "type": "text",
                "text": "begin",
                "citations": [{"type": "char_location", "cited_text": "c"}],
            },
        ),
        (
            {
                "type": "tool_use",
                "id": "t1",
                "name": "left_click",
                "input": {},
                "toolset_name": "browser",
            },
            [{"type": "input_json_delta", "partial_json": '{"coordinate":[1,2]}'}],
            {
                "type": "tool_use",
                "id": "t1",
                "name": "left_click",
                "input": {"coordinate": [1, 2]},
                "toolset_name": "browser",
            },
        ),
        (
            {"type": "tool_use", "id": "t1", "name": "now", "input": {}},
            [{"type": "input_json_delta", "partial_json": ""}],
            {"type": "tool_use", "id": "t1", "name": "now", "input": {}},
        ),
    ],
)
def test_a_claude_block_goes_back_as_it_came(
    content: dict[str, Any], deltas: list[dict[str, Any]], back: dict[str, Any]
) -> None:
    parts, _, _ = fold(claude(), [START, *block(0, content, *deltas), *TEXT, *stopped()])
    assert content_of(parts) == [back, {"type": "text", "text": "so"}]
    assert list(content_of(parts)[0]) == list(back), "in the order of keys in which it came"


def test_a_failed_search_of_claude_is_an_error_result() -> None:
    use: dict[str, Any] = {
        "type": "server_tool_use",
        "id": "srv",
        "name": "web_search",
        "input": {},
    }
    result: dict[str, Any] = {
        "type": "web_search_tool_result",
        "tool_use_id": "srv",
        "content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
    }
    parts, _, _ = fold(claude(), [START, *block(0, use), *block(1, result), *TEXT, *stopped()])
    found = parts[1]
    assert isinstance(found, ToolResultPart)
    assert (found.tool, found.is_error, found.provider_executed) == ("web_search", True, True)
    assert content_of(parts)[:2] == [use, result]


def test_encrypted_results_are_kept_but_not_in_what_people_see() -> None:
    use: dict[str, Any] = {
        "type": "server_tool_use",
        "id": "srv",
        "name": "web_search",
        "input": {},
    }
    page = {
        "type": "web_search_result",
        "url": "https://a.example",
        "title": "A",
        "encrypted_content": "zzz",
    }
    result: dict[str, Any] = {
        "type": "web_search_tool_result",
        "tool_use_id": "srv",
        "content": [page],
    }
    parts, _, _ = fold(claude(), [START, *block(0, use), *block(1, result), *TEXT, *stopped()])
    assert content_of(parts)[1] == result
    assert parts[2] == SourcePart("https://a.example", "A")
    found = parts[1]
    assert isinstance(found, ToolResultPart)
    shown = {"type": "web_search_result", "url": "https://a.example", "title": "A"}
    assert found.content == (JsonPart([shown]),)


def test_later_usage_of_claude_replaces_earlier_and_null_does_not() -> None:
    usage: dict[str, Any] = {
        "input_tokens": 100,
        "cache_read_input_tokens": None,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    _, ended, _ = fold(claude(), [START, *TEXT, *stopped(**usage)])
    assert ended == StepEnded("end", Usage(105, 7, 3, 5), "msg_1")


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end"),
        ("max_tokens", "max-tokens"),
        ("stop_sequence", "stop-sequence"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "context-window"),
        ("unheard_of", "unknown"),
    ],
)
def test_claude_stops_for_reasons(reason: str, stop: StopReason) -> None:
    _, ended, _ = fold(claude(), [START, *TEXT, *stopped(reason)])
    assert ended.stop == stop


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([START], "truncated"),
        ([START, *TEXT, stopped()[0]], "truncated"),
        ([START, *TEXT, stopped()[1]], "truncated"),
        ([START, *stopped()], "empty_answer"),
        ([START, *stopped("refusal")], "content_filter"),
        ([START, *stopped("model_context_window_exceeded")], "model_context_window_exceeded"),
    ],
)
def test_claude_does_not_fail_silently(events: list[Any], code: str) -> None:
    assert fault_of(claude(), events) == code


def test_a_whole_call_before_a_limit_still_stays_open() -> None:
    call: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "add", "input": {}}
    other: dict[str, Any] = {"type": "tool_use", "id": "t2", "name": "add", "input": {}}
    _, _, builder = fold(
        claude(), [START, *block(0, call), *block(1, other), *stopped("max_tokens")]
    )
    assert builder.unclosed_calls() == {"t2"}


def test_cache_marks_stand_on_the_prompt_and_the_last_two_messages() -> None:
    thinking = ReasoningPart(
        "t",
        Origin("anthropic", CLAUDE).keep({"type": "thinking", "thinking": "", "signature": "s"}),
    )
    step = StepRequest(
        ChatId("c"),
        CLAUDE,
        "Be brief.",
        request(
            CLAUDE,
            (Role.SYSTEM, [TextPart("First.")]),
            USER,
            (Role.ASSISTANT, [TextPart("a"), thinking]),
            (Role.USER, [TextPart("b"), TextPart("c")]),
        ).messages,
        (),
    )
    before = msgspec.json.encode(step.messages)
    body = anthropic_request.to_request(step)
    assert msgspec.json.encode(step.messages) == before, "the marks stand on a copy"
    mark = {"cache_control": {"type": "ephemeral"}}
    assert body["system"] == [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "First."} | mark,
    ]
    assert [message["content"] for message in body["messages"]] == [
        [{"type": "text", "text": "hi"}],
        [
            {"type": "text", "text": "a"} | mark,
            {"type": "thinking", "thinking": "t", "signature": "s"},
        ],
        [{"type": "text", "text": "b"}, {"type": "text", "text": "c"} | mark],
    ]
    metadata = thinking.provider_metadata
    assert metadata is not None
    assert metadata.native == {"type": "thinking", "thinking": "", "signature": "s"}


# OpenAI Responses


def completed(**response: Any) -> dict[str, Any]:
    return {
        "type": "response.completed",
        "response": {"id": "resp_1", "status": "completed", **response},
    }


def item(kind: str, at: int, **data: Any) -> dict[str, Any]:
    return {"type": f"response.output_item.{kind}", "output_index": at, "item": data}


def said(at: int, text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": at, "delta": text}


MESSAGE: Final[dict[str, Any]] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "so", "annotations": []}],
}
REASONING: Final[dict[str, Any]] = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "encrypted_content": "zzz",
}


def input_of(parts: Parts) -> list[dict[str, Any]]:
    body = openai_responses_request.to_request(request(GPT, USER, (Role.ASSISTANT, parts), USER))
    found: list[dict[str, Any]] = body["input"][1:-1]
    return found


def test_items_after_reasoning_go_back_as_they_came() -> None:
    call: dict[str, Any] = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c1",
        "name": "add",
        "arguments": '{"a": 1}',
        "status": "completed",
    }
    events = [
        item("added", 0, **REASONING | {"encrypted_content": "half"}),
        item("done", 0, **REASONING),
        item("added", 1, **MESSAGE | {"content": []}),
        said(1, "so"),
        item("done", 1, **MESSAGE),
        item("added", 2, **call | {"arguments": ""}),
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"a": 1}'},
        item("done", 2, **call),
        completed(),
    ]
    parts, ended, _ = fold(gpt(), events)
    assert input_of(parts) == [REASONING, MESSAGE, call]
    assert ended.stop == "tool-calls"


def test_items_without_reasoning_need_no_block() -> None:
    parts, _, _ = fold(gpt(), [said(0, "so"), item("done", 0, **MESSAGE), completed()])
    assert parts == (TextPart("so"),)
    with_phase = MESSAGE | {"phase": "commentary"}
    parts, _, _ = fold(gpt(), [said(0, "so"), item("done", 0, **with_phase), completed()])
    assert input_of(parts) == [with_phase]


def test_items_that_are_only_ever_done_are_read_whole() -> None:
    thinking = REASONING | {
        "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    }
    call: dict[str, Any] = {
        "type": "function_call",
        "call_id": "c1",
        "name": "add",
        "arguments": '{"a":1}',
    }
    events = [
        item("done", 0, **thinking),
        item("done", 1, **MESSAGE),
        item("done", 2, **call),
        completed(),
    ]
    parts, _, builder = fold(gpt(), events)
    assert [type(part) for part in parts] == [ReasoningPart, TextPart, ToolCallPart]
    reasoning, text, called = parts
    assert isinstance(reasoning, ReasoningPart)
    assert isinstance(text, TextPart)
    assert isinstance(called, ToolCallPart)
    assert (reasoning.text, text.text, called.arguments) == ("a\n\nb", "so", {"a": 1})
    assert not builder.unclosed_calls()


def test_unknown_items_are_kept_for_their_provider_alone() -> None:
    odd = {"type": "brand_new", "id": "x_1", "payload": [1]}
    parts, _, _ = fold(
        gpt(), [item("done", 0, **odd), said(1, "so"), item("done", 1, **MESSAGE), completed()]
    )
    assert input_of(parts) == [odd, MESSAGE]
    parts, _, _ = fold(
        gpt(),
        [
            item("done", 0, **REASONING),
            item("done", 1, **odd),
            item("done", 2, **MESSAGE),
            completed(),
        ],
    )
    assert input_of(parts) == [REASONING, odd, MESSAGE]
    claude_body = anthropic_request.to_request(request(CLAUDE, USER, (Role.ASSISTANT, parts), USER))
    assert [i["text"] for i in claude_body["messages"][1]["content"]] == ["so"]


def kinds_of(union: Any) -> list[str]:
    (members, *_) = get_args(union)
    return [get_args(one.model_fields["type"].annotation)[0] for one in get_args(members)]


@pytest.mark.parametrize("kind", kinds_of(ResponseOutputItem))
def test_every_kind_of_item_of_the_sdk_goes_back_as_it_came(kind: str) -> None:
    known: dict[str, dict[str, Any]] = {
        "message": MESSAGE,
        "reasoning": REASONING,
        "function_call": {"call_id": "c1", "name": "add", "arguments": "{}", "async": True},
        "computer_call": {"call_id": "c1", "actions": [{"type": "screenshot"}]},
    }
    data = {"type": kind, "id": "x_1", "status": "completed"} | known.get(kind, {})
    later = MESSAGE | {"id": "msg_2", "phase": "final_answer"}
    events = [item("added", 0, **data), item("done", 0, **data), item("done", 1, **later)]
    parts, _, _ = fold(gpt(), [*events, completed()])
    if kind == "message":
        assert input_of(parts)[1:] == [later], "a plain text needs no block"
    elif kind == "computer_call":
        assert input_of(parts)[-1] == later, "goes back with the screenshot that answers it"
    else:
        assert input_of(parts) == [data, later]


USED: Final = frozenset(
    {
        "error",
        "response.completed",
        "response.failed",
        "response.function_call_arguments.delta",
        "response.incomplete",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.annotation.added",
        "response.output_text.delta",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.refusal.delta",
    }
)


@pytest.mark.parametrize("kind", sorted({*kinds_of(ResponseStreamEvent)} - USED))
def test_no_event_of_the_sdk_is_a_surprise(kind: str) -> None:
    """Those that we have no use for change nothing, wherever they stand."""
    event = {"type": kind, "output_index": 0, "item_id": "x", "delta": "x", "sequence_number": 1}
    plain = [said(0, "so"), item("done", 0, **MESSAGE), completed()]
    mixed = [event, said(0, "so"), event, item("done", 0, **MESSAGE), event, completed()]
    assert fold(gpt(), mixed)[:2] == fold(gpt(), plain)[:2]


def test_reasoning_that_nothing_follows_is_left_out() -> None:
    own = Origin("openai-responses", GPT)
    cut = (ReasoningPart("a", own.keep(REASONING)), TextPart("so f"))
    assert input_of(cut) == [{"type": "message", "role": "assistant", "content": "so f"}]


def test_summaries_are_paragraphs() -> None:
    summary = {"type": "response.reasoning_summary_text.delta", "output_index": 0}
    added = {"type": "response.reasoning_summary_part.added", "output_index": 0}
    events = [
        item("added", 0, **REASONING),
        added,
        summary | {"delta": "one"},
        added,
        summary | {"delta": "two"},
        item("done", 0, **REASONING),
        said(1, "so"),
        completed(),
    ]
    parts, _, _ = fold(gpt(), events)
    assert isinstance(parts[0], ReasoningPart)
    assert parts[0].text == "one\n\ntwo"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, "rate_limit_exceeded"),
        ({"type": "error", "code": None, "message": "m"}, "server_error"),
        ({"type": "error", "error": {"type": "server_error", "code": None}}, "server_error"),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt"}}},
            "invalid_prompt",
        ),
        ({"type": "response.failed", "response": {"error": None}}, "server_error"),
        ({"type": "response.in_progress"}, "truncated"),
        (completed(), "empty_answer"),
        (
            {
                "type": "response.incomplete",
                "response": {
                    "status": "incomplete",
                    "incomplete_details": {"reason": "content_filter"},
                },
            },
            "content_filter",
        ),
    ],
)
def test_gpt_does_not_fail_silently(event: dict[str, Any], code: str) -> None:
    assert fault_of(gpt(), [event]) == code


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("max_output_tokens", "max-tokens"),
        ("content_filter", "content-filter"),
        ("steered", "unknown"),
    ],
)
def test_incomplete_answers_have_a_reason(reason: str, stop: StopReason) -> None:
    event = {
        "type": "response.incomplete",
        "response": {"status": "incomplete", "incomplete_details": {"reason": reason}},
    }
    _, ended, _ = fold(gpt(), [said(0, "so"), event])
    assert ended.stop == stop


def test_an_incomplete_call_stays_open() -> None:
    call: dict[str, Any] = {
        "type": "function_call",
        "call_id": "c1",
        "name": "add",
        "arguments": "{}",
        "status": "incomplete",
    }
    _, _, builder = fold(gpt(), [item("added", 0, **call), item("done", 0, **call), completed()])
    assert builder.unclosed_calls() == {"c1"}


# Google


def chunk(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> Any:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish:
        candidate["finishReason"] = finish
    grounding = more.pop("groundingMetadata", None)
    if grounding:
        candidate["groundingMetadata"] = grounding
    return {"candidates": [candidate], "responseId": "r", **more}


SIGNATURE: Final = base64.b64encode(b"\xff\xfesigned\x00").decode()
OTHER: Final = base64.b64encode(b"other").decode()


def model_parts(parts: Parts, model: ModelAccess = GEMINI) -> list[dict[str, Any]]:
    body = google_request.to_request(request(model, USER, (Role.ASSISTANT, parts), USER))
    found: list[dict[str, Any]] = body["contents"][1]["parts"]
    return found


def test_a_text_with_a_signature_is_one_part_for_people_and_goes_back_in_its_pieces() -> None:
    parts, _, _ = fold(
        gemini(),
        [
            chunk({"text": "Hel"}),
            chunk({"text": "lo "}),
            chunk({"text": "world", "thoughtSignature": SIGNATURE}),
            chunk({"text": "!"}),
            chunk({"text": "", "thoughtSignature": OTHER}, finish="STOP"),
        ],
    )
    (text,) = parts
    assert isinstance(text, TextPart)
    assert text.text == "Hello world!"
    assert model_parts(parts) == [
        {"text": "Hello "},
        {"text": "world", "thoughtSignature": SIGNATURE},
        {"text": "!"},
        {"text": "", "thoughtSignature": OTHER},
    ]
    assert model_parts(parts, access("google", "gemini-2.5-pro")) == [{"text": "Hello world!"}]


def test_calls_carry_their_signature_and_their_id() -> None:
    parts, ended, _ = fold(
        gemini(),
        [
            chunk({"text": "plan", "thought": True}),
            chunk(
                {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": SIGNATURE}
            ),
            chunk({"functionCall": {"name": "add", "id": "g1"}}, finish="STOP"),
        ],
    )
    assert ended.stop == "tool-calls"
    assert parts[0] == ReasoningPart("plan")
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    assert [call.call_id for call in calls] == ["made", "g1"]
    results = [ToolResultPart(call.call_id, call.tool, (TextPart("2"),)) for call in calls]
    body = google_request.to_request(
        request(GEMINI, USER, (Role.ASSISTANT, parts), (Role.TOOL, results))
    )
    assert [content["parts"] for content in body["contents"][1:]] == [
        [
            {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": SIGNATURE},
            {"functionCall": {"id": "g1", "name": "add", "args": {}}},
        ],
        [
            {"functionResponse": {"name": "add", "response": {"output": "2"}}},
            {"functionResponse": {"id": "g1", "name": "add", "response": {"output": "2"}}},
        ],
    ]


def test_calls_of_others_get_the_stand_in_for_a_signature_where_one_is_wanted() -> None:
    calls = (ToolCallPart("c1", "add", {}), ToolCallPart("c2", "9lives", {}))
    assert model_parts(calls) == [
        {
            "functionCall": {"name": "add", "args": {}},
            "thoughtSignature": google_request.SKIP_SIGNATURE,
        },
        {"functionCall": {"name": "_9lives", "args": {}}},
    ]
    older = model_parts(calls, access("google", "gemini-2.5-pro"))
    assert not any("thoughtSignature" in part for part in older)


def test_signed_thoughts_go_back() -> None:
    thought = {"text": "hm", "thought": True, "thoughtSignature": SIGNATURE}
    parts, _, _ = fold(gemini(), [chunk(thought), chunk({"text": "so"}, finish="STOP")])
    assert model_parts(parts) == [thought, {"text": "so"}]


def test_code_that_google_runs_is_a_call_and_its_result() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
    result: dict[str, Any] = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}
    parts, ended, _ = fold(
        gemini(), [chunk(code), chunk(result), chunk({"text": "1"}, finish="STOP")]
    )
    call, found, _ = parts
    assert isinstance(call, ToolCallPart)
    assert isinstance(found, ToolResultPart)
    assert (call.provider_executed, found.provider_executed, found.call_id) == (
        True,
        True,
        call.call_id,
    )
    assert ended.stop == "end"
    assert model_parts(parts) == [code, result, {"text": "1"}]


def test_generated_media_are_files() -> None:
    media = {"inlineData": {"mimeType": "image/png", "data": PNG_64}, "thoughtSignature": SIGNATURE}
    parts, _, _ = fold(gemini(), [chunk(media, finish="STOP")])
    assert isinstance(parts[0], FilePart)
    assert (parts[0].media_type, parts[0].data) == ("image/png", PNG)
    (back,) = model_parts(parts)
    assert back == media


def test_google_names_its_sources_and_counts_its_tokens() -> None:
    grounding = {"groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}]}
    usage = {
        "promptTokenCount": 9,
        "toolUsePromptTokenCount": 1,
        "candidatesTokenCount": 4,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 2,
    }
    parts, ended, _ = fold(
        gemini(),
        [
            chunk({"text": "so"}, usageMetadata={"trafficType": "ON_DEMAND"}),
            chunk(finish="STOP", groundingMetadata=grounding, usageMetadata=usage),
        ],
    )
    assert parts == (TextPart("so"), SourcePart("https://a.example", "A"))
    assert ended == StepEnded("end", Usage(10, 7, 3, 2), "r")


def test_sources_of_google_stand_at_the_search_or_behind_the_words_that_they_support() -> None:
    """They are named at the end of the answer, when a local call has followed already."""
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 3, "endIndex": 9}, "groundingChunkIndices": [0]}
        ],
    }
    call: dict[str, Any] = {"functionCall": {"name": "add", "args": {}}}
    search: dict[str, Any] = {
        "toolCall": {"id": "s", "toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["q"]}}
    }
    found: dict[str, Any] = {
        "toolResponse": {"id": "s", "toolType": "GOOGLE_SEARCH_WEB", "response": {"x": 1}}
    }
    text: dict[str, Any] = {"text": "So it is."}
    ends: dict[str, Any] = {"finish": "STOP", "groundingMetadata": grounding}
    for sent, kinds in (
        ([text, call], [TextPart, SourcePart, ToolCallPart]),
        (
            [search, found, text, call],
            [ToolCallPart, ToolResultPart, SourcePart, TextPart, ToolCallPart],
        ),
    ):
        translator = google_events.Translator(
            Origin("google", GEMINI), CallIds(make=lambda: "made"), searches=True
        )
        parts, _, builder = fold(translator, [*(chunk(part) for part in sent), chunk(**ends)])
        assert [type(part) for part in parts] == kinds
        source = next(part for part in parts if isinstance(part, SourcePart))
        assert source == SourcePart("https://a.example", "A", cited=((3, 9),))
        preview = builder.preview(history_version=1, attempt=1, seq=1)
        assert list(preview.indexes) == sorted(preview.indexes), "clients sort by them"


def test_an_answer_that_google_gives_in_pieces_is_one_answer() -> None:
    translator = gemini()
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2}
    first = chunk({"text": "one "}, finish="CONTINUATION", usageMetadata=usage)
    first["candidates"][0]["continuationToken"] = "token"
    events = list(translator.feed(first))
    assert not translator.finished
    assert translator.continued() == "token"
    assert translator.continued() is None
    events += translator.feed(chunk({"text": "two"}, finish="STOP", usageMetadata=usage))
    *deltas, ended = [*events, *translator.end()]
    builder = PartsBuilder()
    for event in deltas:
        assert not isinstance(event, StepEnded | StepNamed)
        builder.apply(event)
    assert builder.parts() == (TextPart("one two"),)
    assert ended == StepEnded("end", Usage(10, 4), "r")


def test_a_kind_of_part_that_google_will_have_one_day_goes_back_unchanged() -> None:
    unknown = {"newThing": {"deep": [1, None]}, "thoughtSignature": SIGNATURE}
    parts, _, _ = fold(gemini(), [chunk(unknown), chunk({"text": "so"}, finish="STOP")])
    assert [type(part) for part in parts] == [ReasoningPart, TextPart]
    assert model_parts(parts) == [unknown, {"text": "so"}]


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([chunk({"text": "so"})], "truncated"),
        ([chunk(finish="STOP")], "empty_answer"),
        ([chunk({"text": "", "thoughtSignature": SIGNATURE}, finish="STOP")], "empty_answer"),
        ([chunk(finish="SAFETY")], "content_filter"),
        ([chunk({"text": "so"}, finish="MALFORMED_FUNCTION_CALL")], "malformed_function_call"),
        (
            [{"promptFeedback": {"blockReason": "SAFETY"}}],
            "content_filter",
        ),
    ],
)
def test_gemini_does_not_fail_silently(events: list[Any], code: str) -> None:
    assert fault_of(gemini(), events) == code


# What people and tools put in, in each form


IMAGE: Final = FilePart("image/png", "a.png", data=PNG)
PDF: Final = FilePart("application/pdf", "a.pdf", file_id="f1")
REFERENCE: Final = FileReferencePart("a.py", 3, 5, "x = 1\n```")
QUOTED: Final = "a.py, lines 3 to 5:\n````\nx = 1\n```\n````"
ASKED: Final = [TextPart("look"), IMAGE, PDF, REFERENCE]
FOUND: Final = [
    ToolResultPart("c1", "look", (TextPart("seen"), JsonPart({"a": [1]}), IMAGE)),
    ToolResultPart("c2", "look", (TextPart("no"),), is_error=True),
]
CALLS: Final = [ToolCallPart("c1", "look", {"x": 1.5}), ToolCallPart("c2", "look", {})]


def asked(model: ModelAccess) -> StepRequest:
    return request(model, (Role.USER, ASKED), (Role.ASSISTANT, CALLS), (Role.TOOL, FOUND))


def test_what_anthropic_is_shown() -> None:
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG_64},
    }
    mark = {"cache_control": {"type": "ephemeral"}}
    assert anthropic_request.to_request(asked(CLAUDE))["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                image,
                {"type": "text", "text": "[file 'a.pdf', application/pdf]"},
                {"type": "text", "text": QUOTED},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"x": 1.5}},
                {"type": "tool_use", "id": "c2", "name": "look", "input": {}} | mark,
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "content": [{"type": "text", "text": 'seen\n{"a":[1]}'}, image],
                },
                {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": True}
                | mark,
            ],
        },
    ]


def test_what_the_responses_api_is_shown() -> None:
    image = {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{PNG_64}",
        "detail": "auto",
    }
    body = openai_responses_request.to_request(asked(GPT))
    assert (body["store"], body["prompt_cache_key"]) == (False, "chat-1")
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                image,
                {"type": "input_text", "text": "[file 'a.pdf', application/pdf]"},
                {"type": "input_text", "text": QUOTED},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"x":1.5}'},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_text", "text": 'seen\n{"a":[1]}'}, image],
        },
        {"type": "function_call_output", "call_id": "c2", "output": "no"},
    ]


def test_what_chat_completions_are_shown() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_64}"}}
    body = openai_chat_request.to_request(asked(access("openai-chat", base_url="http://x/v1")))
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                image,
                {"type": "text", "text": "[file 'a.pdf', application/pdf]"},
                {"type": "text", "text": QUOTED},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"x":1.5}'},
                },
                {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": 'seen\n{"a":[1]}'},
        {"role": "tool", "tool_call_id": "c2", "content": "no"},
        {"role": "user", "content": [{"type": "text", "text": "Files from look (c1):"}, image]},
    ]


@pytest.mark.parametrize(
    ("base_url", "limit", "has_cache_key"),
    [
        (None, "max_completion_tokens", True),
        ("https://api.openai.com/v1", "max_completion_tokens", True),
        ("https://x.openai.azure.com/openai/v1", "max_completion_tokens", False),
        ("https://api.groq.com/openai/v1", "max_tokens", False),
        ("http://127.0.0.1:8080/v1", "max_tokens", False),
    ],
)
def test_servers_are_told_apart_by_their_address(
    base_url: str | None, limit: str, *, has_cache_key: bool
) -> None:
    body = openai_chat_request.to_request(request(access("openai-chat", base_url=base_url), USER))
    assert body[limit] == 32_000
    assert {"max_tokens", "max_completion_tokens"} & set(body) == {limit}
    assert ("prompt_cache_key" in body) is has_cache_key
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_servers_that_want_their_reasoning_back_get_it_on_every_message() -> None:
    model = access("openai-chat", base_url="https://api.deepseek.com/v1")
    own = Origin("openai-chat", model).keep({})
    body = openai_chat_request.to_request(
        request(
            model,
            USER,
            (Role.ASSISTANT, [ReasoningPart("mine", own), TextPart("a")]),
            USER,
            (Role.ASSISTANT, [ReasoningPart("foreign"), TextPart("b")]),
            USER,
        )
    )
    assert [m.get("reasoning_content") for m in body["messages"] if m["role"] == "assistant"] == [
        "mine",
        " ",
    ]


def test_what_gemini_is_shown() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": PNG_64}}
    body = google_request.to_request(asked(GEMINI))
    user, _, results = (content["parts"] for content in body["contents"])
    assert user == [
        {"text": "look"},
        image,
        {"text": "[file 'a.pdf', application/pdf]"},
        {"text": QUOTED},
    ]
    first = {"name": "look", "response": {"output": 'seen\n{"a":[1]}'}}
    second = {"functionResponse": {"name": "look", "response": {"error": "no"}}}
    assert results == [{"functionResponse": first | {"parts": [image]}}, second]
    older = google_request.to_request(asked(access("google", "gemini-2.5-flash")))
    assert older["contents"][2]["parts"] == [{"functionResponse": first}, second, image]


def test_odd_ids_go_back_to_their_own_model_alone() -> None:
    # Kimi reads a meaning into its ids; other models behind the same gateway refuse them.
    model = access("openai-chat", base_url="http://x/v1")
    call = ToolCallPart("functions.add:0", "add", {})
    step = request(
        model, USER, (Role.ASSISTANT, [call]), (Role.TOOL, [ToolResultPart(call.call_id, "add")])
    )
    other = msgspec.structs.replace(model, name=ModelName("p/other"), model_id="other")
    own, foreign = (
        [m.get("tool_call_id") or m["tool_calls"][0]["id"] for m in body["messages"][1:]]
        for body in (
            openai_chat_request.to_request(step),
            openai_chat_request.to_request(msgspec.structs.replace(step, model=other)),
        )
    )
    assert own == ["functions.add:0"] * 2
    assert foreign == ["functions_add_0_" + foreign[0].rpartition("_")[2]] * 2
