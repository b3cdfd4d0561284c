"""A model that goes in circles is told, and then stopped; one that makes progress never is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from steersman_chatloop.decide import CallModel, FinishTurn, Pause, Remind, decide
from steersman_chatloop.loop_guard import NOTICE, Guard, find_circle
from steersman_contracts.chats import Message, Role, Visibility
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import Part, TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.terms import LimitReached

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GUARD = Guard(3, 6)


class Turn:
    """A history that grows by steps."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.say(Role.USER, TextPart("go"))

    def say(self, role: Role, *parts: Part, **fields: Any) -> None:
        number = len(self.messages) + 1
        self.messages.append(Message(MessageId(number), role, parts, number, NOW, **fields))

    def step(self, tool: str, result: str = "no", *, fails: bool = True, **arguments: Any) -> None:
        call_id = f"c{len(self.messages)}"
        self.say(Role.ASSISTANT, ToolCallPart(call_id, tool, arguments), stop="tool-calls")
        self.say(Role.TOOL, ToolResultPart(call_id, tool, (TextPart(result),), is_error=fails))

    def notice(self) -> None:
        self.say(Role.USER, TextPart(NOTICE), visibility=Visibility.MODEL)

    def next(self) -> object:
        return decide(self.messages, steps=1, max_steps=1000, guard=GUARD)


def test_the_same_failing_call_is_noticed_and_then_ends_the_turn() -> None:
    turn = Turn()
    seen: list[object] = []
    for number in range(6):
        turn.step("build", f"failed at {number}", target="all")  # times and numbers differ
        seen.append(turn.next())
        if seen[-1] == Remind():
            turn.notice()
            assert turn.next() == CallModel()

    assert seen == [
        CallModel(),
        CallModel(),
        Remind(),
        CallModel(),
        CallModel(),
        FinishTurn("loop"),
    ]


def test_going_back_and_forth_is_a_circle_as_well() -> None:
    turn = Turn()
    for _ in range(3):
        turn.step("edit", "done", fails=False, to="a")
        turn.step("build")
        turn.step("edit", "done", fails=False, to="b")
        turn.step("build")

    assert find_circle(turn.messages).repetitions == 3
    assert turn.next() == Remind()


def test_what_succeeds_alike_may_be_waiting() -> None:
    turn = Turn()
    for _ in range(11):
        turn.step("look", "still running", fails=False)
    assert turn.next() == CallModel()

    turn.step("look", "still running", fails=False)
    assert turn.next() == Remind()


def test_other_arguments_or_other_results_are_progress() -> None:
    turn = Turn()
    for number in range(20):
        turn.step("look", f"line {number}", fails=False)
    for number in range(20):
        turn.step("build", target=number)

    assert find_circle(turn.messages).repetitions == 0


def test_a_word_of_a_person_begins_anew() -> None:
    turn = Turn()
    for _ in range(5):
        turn.step("build")
    turn.say(Role.USER, TextPart("try again"))
    for _ in range(2):
        turn.step("build")

    assert find_circle(turn.messages).repetitions == 2


def test_a_turn_that_is_over_anyway_does_not_pause() -> None:
    turn = Turn()
    turn.step("build")
    reached = LimitReached("steps", 1, 1)

    assert decide(turn.messages, steps=1, max_steps=9, reached=reached) == Pause(reached)
    turn.say(Role.ASSISTANT, TextPart("done"), stop="end")
    assert decide(turn.messages, steps=2, max_steps=9, reached=reached) == FinishTurn("completed")
