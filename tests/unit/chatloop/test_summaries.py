"""When a summary helps, and what of a history that is too long it is written from."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from steersman_chatloop.compaction import INSTRUCTION, NO_ROOM, Window, asked
from steersman_chatloop.decide import (
    CallModel,
    Compact,
    Compaction,
    Decision,
    Fail,
    FinishTurn,
    decide,
)
from steersman_chatloop.restating import plan_in
from steersman_contracts.chats import Boundary, Message, Role, Usage, Visibility
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

FULL = Usage(input_tokens=80)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def message(
    role: Role,
    *parts: Part | str,
    revision: int = 2,
    visibility: Visibility = Visibility.BOTH,
    boundary: Boundary | None = None,
    usage: Usage | None = None,
) -> Message:
    made = tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
    return Message(
        MessageId(1),
        role,
        made,
        revision,
        NOW,
        visibility=visibility,
        boundary=boundary,
        usage=usage,
        stop="end" if role is Role.ASSISTANT else None,
    )


SUMMARY = message(Role.USER, "so far", revision=1, visibility=Visibility.MODEL, boundary="summary")
STEP = message(Role.ASSISTANT, "a step", usage=FULL)
NOTE = message(Role.USER, "not of the form that is wanted", visibility=Visibility.MODEL)
QUESTION = message(Role.USER, "and now?")


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([SUMMARY, STEP, NOTE], Fail(NO_ROOM)),  # a note of ours is nothing new
        ([SUMMARY, STEP, NOTE, STEP, NOTE], Compact("automatic")),
        ([SUMMARY, STEP, QUESTION], Compact("automatic")),
        ([SUMMARY, NOTE], CallModel()),
    ],
)
def test_a_first_step_that_is_still_too_long_is_not_summarised_again(
    history: list[Message], expected: Decision
) -> None:
    compaction = Compaction(Window(100, 70))
    assert decide(history, steps=1, max_steps=9, compaction=compaction) == expected


def test_a_tool_that_ends_the_turn_ends_it_also_where_the_context_is_full() -> None:
    call = message(Role.ASSISTANT, ToolCallPart("1", "propose_plan", {}), usage=FULL)
    ends = message(Role.TOOL, ToolResultPart("1", "propose_plan", ends_turn=True))
    compaction = Compaction(Window(100, 70))
    history = [QUESTION, call, ends]

    assert decide(history, steps=1, max_steps=9, compaction=compaction) == FinishTurn("completed")
    history.append(QUESTION)
    assert decide(history, steps=1, max_steps=9, compaction=compaction) == Compact("automatic")


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("# Plan", "The newest plan that you proposed:\n\n# Plan"),
        (
            "x" * 20_001,
            "The newest plan that you proposed:\n\n"
            + "x" * 20_000
            + "\n[the rest is left out here]",
        ),
    ],
)
def test_the_newest_plan_that_was_shown_is_said_again(plan: str, expected: str) -> None:
    def proposal(call_id: str, text: str, *, shown: bool) -> list[Message]:
        call = ToolCallPart(call_id, "propose_plan", {"plan": text})
        result = ToolResultPart(call_id, "propose_plan", is_error=not shown, ends_turn=shown)
        return [message(Role.ASSISTANT, call), message(Role.TOOL, result)]

    older = proposal("1", "# Older", shown=True)
    refused = proposal("3", "# Refused", shown=False)
    assert plan_in([*older, *proposal("2", plan, shown=True), *refused, QUESTION]) == expected
    assert plan_in([*refused, QUESTION]) == ""


def test_a_history_that_is_too_long_loses_its_oldest_half_and_the_ends_of_results() -> None:
    call = ToolCallPart("c", "look", {})
    picture = FilePart("image/png", "sea.png", data=bytes(9_000))
    result = ToolResultPart("c", "look", (TextPart("seen"), picture))
    long = ToolResultPart("c", "look", (JsonPart({"all": "x" * 9_000}),))
    history = [
        message(Role.USER, "y" * 9_000),
        message(Role.ASSISTANT, call),
        message(Role.TOOL, long),
        message(Role.ASSISTANT, call),
        message(Role.TOOL, result),
    ]

    *kept, instruction = asked(history, shrink=1)

    assert [m.role for m in kept] == [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT, Role.TOOL]
    (cut,), (shown,) = kept[1].parts, kept[3].parts
    assert isinstance(cut, ToolResultPart)
    assert isinstance(shown, ToolResultPart)
    (text,) = cut.content
    assert isinstance(text, TextPart)
    assert text.text == '{"all":"' + "x" * 3_992 + "\n[5010 characters are left out here]"
    assert shown.content == (TextPart("seen\n[a file: sea.png]"),)
    (said,) = instruction.parts
    assert isinstance(said, TextPart)
    assert said.text.startswith(INSTRUCTION)
    assert "oldest part of the conversation did not fit" in said.text
    assert asked(history)[:-1] == tuple(history)
