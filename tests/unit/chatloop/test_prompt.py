from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest

from steersman_chatloop.prompt import EARLIER, INTERRUPTED, prepare
from steersman_chatloop.providers.neutral import CONTINUE
from steersman_contracts.chats import Message, Role, StopReason, Visibility
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import (
    FileReferencePart,
    Part,
    ProviderMetadata,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
SIGNED: Final = ProviderMetadata("anthropic", native={"signature": "s"})


def message(role: Role, *parts: Part, stop: StopReason | None = None, **fields: Any) -> Message:
    found = Message(MessageId(1), role, parts, 1, NOW, stop=stop)
    return msgspec.structs.replace(found, **fields) if fields else found


def user(text: str = "hi", **fields: Any) -> Message:
    return message(Role.USER, TextPart(text), **fields)


def assistant(*parts: Part, stop: StopReason | None = None) -> Message:
    return message(Role.ASSISTANT, *parts, stop=stop)


def tool(*parts: Part) -> Message:
    return message(Role.TOOL, *parts)


def call(call_id: str = "c1", **fields: Any) -> ToolCallPart:
    return ToolCallPart(call_id, "add", {"a": 1}, **fields)


def result(call_id: str = "c1", text: str = "2", **fields: Any) -> ToolResultPart:
    return ToolResultPart(call_id, "add", (TextPart(text),), **fields)


def interrupted(call_id: str = "c1") -> ToolResultPart:
    return result(call_id, INTERRUPTED, is_error=True)


def test_a_well_formed_history_passes_as_the_same_objects() -> None:
    history = [
        message(Role.SYSTEM, TextPart("Note.")),
        user(),
        assistant(ReasoningPart("hm"), TextPart("adding"), call(), call("c2")),
        tool(result(), result("c2")),
        assistant(TextPart("done"), SourcePart("https://a.example")),
        user("thanks"),
    ]
    prepared = prepare(history)
    assert all(a is b for a, b in zip(prepared, history, strict=True))
    assert prepare(prepared) == prepared


def test_what_the_model_must_not_see_is_left_out() -> None:
    shown = user("shown")
    history = [
        user("gone", deleted=True),
        user("for people", visibility=Visibility.USER),
        msgspec.structs.replace(shown, visibility=Visibility.MODEL),
        user(" \n"),
        message(Role.USER),
        shown,
    ]
    assert prepare(history) == (history[2], shown)


def test_a_missing_result_is_said_to_be_missing() -> None:
    calls = assistant(call(), call("c2"))
    assert prepare([user(), calls])[2].parts == (interrupted(), interrupted("c2"))
    late = prepare([user(), calls, user("stop"), tool(result())])
    assert [m.role for m in late] == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.USER]
    assert late[2].parts == (interrupted(), interrupted("c2"))


def test_results_stand_once_and_in_the_order_of_the_calls() -> None:
    calls = assistant(call(), call("c2"), call("c3"))
    stored = [tool(result("c2"), result("nobody's"), result("c2", "again")), tool(result("c1"))]
    prepared = prepare([user(), calls, *stored])
    assert len(prepared) == 3
    assert prepared[2].parts == (result(), result("c2"), interrupted("c3"))


def test_results_without_a_call_are_left_out() -> None:
    history = [user(), tool(result()), assistant(TextPart("hi"), result()), tool(result()), user()]
    assert [m.parts for m in prepare(history)] == [
        (TextPart("hi"),),
        (TextPart("hi"),),
        (TextPart("hi"),),
    ]


def test_a_call_that_did_not_parse_stays_with_its_error() -> None:
    broken = ToolCallPart("c1", "add", {}, invalid="{oops")
    prepared = prepare([user(), assistant(broken)])
    assert prepared[1].parts == (broken,)
    (answer,) = prepared[2].parts
    assert isinstance(answer, ToolResultPart)
    assert answer.is_error
    own = result(is_error=True)
    assert prepare([user(), assistant(broken), tool(own)])[2].parts == (own,)


def test_provider_executed_calls_are_never_invented_and_never_left_open() -> None:
    search = call("s1", provider_executed=True)
    found = result("s1", provider_executed=True)
    whole = assistant(search, found, TextPart("so"))
    assert prepare([user(), whole, user()])[1] is whole
    for parts in (
        [search, TextPart("so")],
        [found, TextPart("so")],
        [found, search, TextPart("so")],
    ):
        assert prepare([user(), assistant(*parts), user()])[1].parts == (TextPart("so"),)
    twice = assistant(search, found, found, TextPart("so"))
    assert prepare([user(), twice, user()])[1].parts == whole.parts
    in_tool_message = [user(), assistant(call()), tool(result(provider_executed=True))]
    assert prepare(in_tool_message)[2].parts == (interrupted(),)


def test_a_paused_search_goes_back_to_be_continued() -> None:
    search = call("s1", provider_executed=True)
    paused = assistant(TextPart("looking"), search, stop="pause")
    assert prepare([user(), paused]) == (user(), paused)
    assert prepare([user(), paused, user("stop")])[1].parts == (TextPart("looking"),)


def test_two_calls_of_one_id_in_a_message_are_one() -> None:
    prepared = prepare([user(), assistant(call(), call()), tool(result())])
    assert prepared[1].parts == (call(),)
    assert prepared[2].parts == (result(),)


def test_parts_that_do_not_belong_to_a_role_are_left_out() -> None:
    reference = FileReferencePart("a.py", 1, 2, "x")
    odd = message(Role.USER, TextPart("look"), call(), reference, ReasoningPart("no"))
    assert prepare([odd])[0].parts == (TextPart("look"), reference)
    assert prepare([user(), assistant(reference, TextPart("ok")), user()])[1].parts == (
        TextPart("ok"),
    )


def test_empty_text_with_a_block_of_its_provider_is_not_empty() -> None:
    redacted = assistant(ReasoningPart("", SIGNED), TextPart("ok"))
    assert prepare([user(), redacted, user()])[1] is redacted
    assert prepare([user(), assistant(ReasoningPart("", SIGNED)), user()])[1].parts
    assert len(prepare([user(), assistant(TextPart(""), ReasoningPart(" ")), user()])) == 2


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("", ""),
        ("u", "u"),
        ("a", "uau"),
        ("ua", "uau"),
        ("t", ""),
        ("s", "su"),
        ("sau", "suau"),
        ("uau", "uau"),
    ],
)
def test_a_history_begins_and_ends_with_input(roles: str, expected: str) -> None:
    names = {"u": Role.USER, "a": Role.ASSISTANT, "t": Role.TOOL, "s": Role.SYSTEM}
    history = [message(names[role], TextPart(role)) for role in roles]
    prepared = prepare(history)
    assert "".join(m.role.value[0] for m in prepared) == expected


def test_what_is_put_in_says_so() -> None:
    first, _, last = prepare([assistant(TextPart("hi"))])
    assert (first.parts, last.parts) == ((TextPart(EARLIER),), (TextPart(CONTINUE),))
    assert first.visibility is Visibility.MODEL
