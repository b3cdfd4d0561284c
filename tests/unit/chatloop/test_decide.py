"""What the loop does next, from what is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_chatloop.decide import (
    RUNS_CALLS,
    CallModel,
    Compact,
    Compaction,
    Decision,
    FinishTurn,
    RunTools,
    decide,
)
from steersman_contracts.chats import Message, Role, StopReason, Visibility
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import Part, TextPart, ToolCallPart, ToolResultPart

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOCAL = ToolCallPart("1", "read_file", {})
HOSTED = ToolCallPart("2", "web_search", {}, provider_executed=True)
RESULT = ToolResultPart("1", "read_file", (TextPart("ok"),))


def message(
    role: Role,
    *parts: Part,
    stop: StopReason | None = None,
    visibility: Visibility = Visibility.BOTH,
    deleted: bool = False,
) -> Message:
    return Message(
        MessageId(1), role, parts, 1, NOW, stop=stop, visibility=visibility, deleted=deleted
    )


USER = message(Role.USER, TextPart("hi"))
SAID = message(Role.ASSISTANT, TextPart("hello"), stop="end")


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], FinishTurn("completed")),
        ([USER], CallModel()),
        ([USER, SAID], FinishTurn("completed")),
        ([USER, SAID, USER], CallModel()),
        ([USER, message(Role.ASSISTANT, LOCAL, stop="tool-calls")], RunTools((LOCAL,))),
        (
            [USER, message(Role.ASSISTANT, LOCAL, stop="max-tokens")],
            FinishTurn("completed", (LOCAL,)),
        ),
        ([USER, message(Role.ASSISTANT, HOSTED, stop="end")], FinishTurn("completed")),
        ([USER, message(Role.ASSISTANT, HOSTED, stop="pause")], CallModel()),
        (
            [USER, message(Role.ASSISTANT, HOSTED, LOCAL, stop="tool-calls")],
            RunTools((LOCAL,)),
        ),
        ([USER, message(Role.ASSISTANT, HOSTED, stop="tool-calls")], FinishTurn("completed")),
        ([USER, message(Role.ASSISTANT, LOCAL), message(Role.TOOL, RESULT)], CallModel()),
        (
            [USER, message(Role.ASSISTANT, LOCAL, stop="refusal")],
            FinishTurn("completed", (LOCAL,)),
        ),
        (
            [USER, message(Role.ASSISTANT, LOCAL, stop="interrupted")],
            FinishTurn("completed", (LOCAL,)),
        ),
        ([USER, SAID, message(Role.USER, visibility=Visibility.USER)], FinishTurn("completed")),
        ([USER, SAID, message(Role.USER, deleted=True)], FinishTurn("completed")),
    ],
)
def test_the_next_thing_follows_from_the_history(
    history: list[Message], expected: Decision
) -> None:
    assert decide(history, steps=1, max_steps=10) == expected


@pytest.mark.parametrize(
    ("asked", "expected"), [((), FinishTurn("completed")), ((USER,), CallModel())]
)
def test_a_turn_that_was_interrupted_does_not_go_on_by_itself_when_its_summary_has_failed(
    asked: tuple[Message, ...], expected: Decision
) -> None:
    history = [USER, message(Role.ASSISTANT, LOCAL), message(Role.TOOL, RESULT), *asked]
    wanted = Compaction(requested=True)

    assert decide(history, steps=0, max_steps=10, compaction=wanted) == Compact(
        "manual", at_rest=not asked
    )
    assert decide(history, steps=0, max_steps=10) == expected


EVERY_STOP: tuple[StopReason | None, ...] = (*get_args(StopReason), None)


def test_there_is_a_rule_for_every_reason_to_stop() -> None:
    assert set(RUNS_CALLS) == set(EVERY_STOP)
    assert {stop for stop, runs in RUNS_CALLS.items() if runs} == {"tool-calls", "pause"}


@pytest.mark.parametrize("stop", EVERY_STOP)
def test_a_turn_goes_on_only_with_a_local_call_and_a_reason_that_says_so(
    stop: StopReason | None,
) -> None:
    with_call = decide([USER, message(Role.ASSISTANT, LOCAL, stop=stop)], steps=1, max_steps=10)
    without = decide([USER, message(Role.ASSISTANT, HOSTED, stop=stop)], steps=1, max_steps=10)

    if stop in ("tool-calls", "pause"):
        assert with_call == RunTools((LOCAL,))
    else:
        assert with_call == FinishTurn("completed", (LOCAL,))
    assert without == (CallModel() if stop == "pause" else FinishTurn("completed"))


def test_a_turn_of_too_many_steps_ends_with_its_own_outcome() -> None:
    assert decide([USER], steps=10, max_steps=10) == FinishTurn("step_limit")


def test_open_calls_are_answered_even_at_the_limit() -> None:
    history = [USER, message(Role.ASSISTANT, LOCAL, stop="tool-calls")]

    assert decide(history, steps=10, max_steps=10) == RunTools((LOCAL,))


roles = st.sampled_from(Role)
SOME_PARTS: list[Part] = [TextPart("x"), LOCAL, HOSTED, RESULT]
parts = st.lists(st.sampled_from(SOME_PARTS), max_size=3)


def made(role: Role, of: list[Part], stop: StopReason | None) -> Message:
    return message(role, *of, stop=stop)


@given(st.lists(st.builds(made, roles, parts, st.sampled_from(EVERY_STOP)), max_size=6))
def test_the_model_is_never_called_while_a_local_call_is_open(history: list[Message]) -> None:
    decision = decide(history, steps=0, max_steps=10)

    if history and history[-1].role is Role.ASSISTANT and LOCAL in history[-1].parts:
        calls = (LOCAL,) * history[-1].parts.count(LOCAL)
        assert decision in (RunTools(calls), FinishTurn("completed", calls))
