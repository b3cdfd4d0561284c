"""What to do next, from what is stored: a pure function, so that any worker can go on anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from steersman_contracts.chats import Message, Outcome, Role, StopReason, Visibility
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart

_FINAL_STOPS: Final[frozenset[StopReason]] = frozenset(
    {"refusal", "content-filter", "context-window", "interrupted"}
)
"""After these the model does not get another word, whatever it had asked for."""


class CallModel(msgspec.Struct, frozen=True):
    """It is the model's turn."""


class RunTools(msgspec.Struct, frozen=True):
    """Local calls of the last step have no result yet."""

    calls: tuple[ToolCallPart, ...]


class FinishTurn(msgspec.Struct, frozen=True):
    """The turn is over."""

    outcome: Outcome
    unanswered: tuple[ToolCallPart, ...] = ()
    """Local calls that are not run; each is answered with an error, so that none stays open."""


Decision: TypeAlias = CallModel | RunTools | FinishTurn


def decide(messages: Sequence[Message], *, steps: int, max_steps: int) -> Decision:
    """Decide from the stored messages.

    Args:
        messages: The history, in order.
        steps: Model steps committed in this turn.
        max_steps: How many there may be.
    """
    last = next((m for m in reversed(messages) if is_for_model(m)), None)
    if last is None:
        return FinishTurn("completed")
    if last.role is Role.ASSISTANT:
        calls = local_calls(last.parts)  # answered ones would have a message after them
        if last.stop in _FINAL_STOPS:
            return FinishTurn("completed", calls)
        if calls:
            return RunTools(calls)
        if last.stop != "pause":
            return FinishTurn("completed")
    elif last.role is Role.TOOL and any(_ends_turn(part) for part in last.parts):
        return FinishTurn("completed")
    if steps >= max_steps:
        return FinishTurn("step_limit")
    return CallModel()


def _ends_turn(part: object) -> bool:
    return isinstance(part, ToolResultPart) and part.ends_turn


def after_boundary(messages: Sequence[Message]) -> Sequence[Message]:
    """What the model may see of a history: everything after the newest boundary."""
    for position in range(len(messages) - 1, -1, -1):
        if messages[position].boundary is not None and not messages[position].deleted:
            return messages[position + 1 :]
    return messages


def is_for_model(message: Message) -> bool:
    """Whether the model sees the message."""
    return not message.deleted and message.visibility is not Visibility.USER


def local_calls(parts: Sequence[object]) -> tuple[ToolCallPart, ...]:
    """The calls that the provider does not run itself, in order."""
    return tuple(
        part for part in parts if isinstance(part, ToolCallPart) and not part.provider_executed
    )


def error_result(call: ToolCallPart, text: str) -> ToolResultPart:
    """The result of a call that was not run, or not to its end."""
    return ToolResultPart(call.call_id, call.tool, (TextPart(text),), is_error=True)
