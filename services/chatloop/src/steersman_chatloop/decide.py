"""What to do next, from what is stored: a pure function, so that any worker can go on anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from steersman_chatloop.compaction import (
    NO_ROOM,
    Window,
    can_be_summarised,
    holds_only_a_summary,
    last_usage,
    unanswered,
)
from steersman_chatloop.loop_guard import Guard, find_circle
from steersman_contracts.chats import (
    ChatError,
    CompactionSource,
    Message,
    Outcome,
    Role,
    StopReason,
    Visibility,
)
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.terms import LimitReached

RUNS_CALLS: Final[Mapping[StopReason | None, bool]] = {
    "tool-calls": True,
    "pause": True,  # the turn goes on in any case, and it needs the results for that
    "end": False,
    "stop-sequence": False,
    "refusal": False,
    "content-filter": False,
    # A limit may have cut the last call, and one without arguments looks like one whose arguments
    # are still to come.
    "max-tokens": False,
    "context-window": False,
    "interrupted": False,
    "unknown": False,
    None: False,
}
"""Whether local calls are run after a model has stopped so: only where it says that it waits for
them. After anything else they are answered with errors, and it does not get another word.

Adapters see to it that a whole answer with calls says "tool-calls", whatever a server calls that.
"""


_LAST_WORDS: Final[frozenset[StopReason]] = frozenset(
    {"refusal", "content-filter", "context-window", "max-tokens", "interrupted"}
)
"""After these nothing is summarised so that the model can go on."""


class CallModel(msgspec.Struct, frozen=True):
    """It is the model's turn."""


class RunTools(msgspec.Struct, frozen=True):
    """Local calls of the last step have no result yet."""

    calls: tuple[ToolCallPart, ...]


class Compact(msgspec.Struct, frozen=True):
    """Older history is summarised first."""

    source: CompactionSource
    at_rest: bool = False
    """The model does not go on after it: nothing waits for an answer."""


class Fail(msgspec.Struct, frozen=True):
    """The turn cannot go on."""

    error: ChatError


class Remind(msgspec.Struct, frozen=True):
    """The model goes in circles: it is told before it is called again."""


class Pause(msgspec.Struct, frozen=True):
    """A limit of the turn is reached: a person decides how it goes on."""

    reached: LimitReached


class FinishTurn(msgspec.Struct, frozen=True):
    """The turn is over."""

    outcome: Outcome
    unanswered: tuple[ToolCallPart, ...] = ()
    """Local calls that are not run; each is answered with an error, so that none stays open."""


Decision: TypeAlias = CallModel | RunTools | Compact | Fail | Remind | Pause | FinishTurn


class Compaction(msgspec.Struct, frozen=True):
    """What there is to know about summaries, beside the history."""

    window: Window | None = None
    """None: summaries are written on request alone."""
    requested: bool = False
    """A person has asked for one."""
    may_start: bool = True
    """False for a while after one that failed."""
    may_reenter: bool = True
    """False once the model was called again after its end often enough in this turn."""


def decide(
    messages: Sequence[Message],
    *,
    steps: int,
    max_steps: int,
    compaction: Compaction = Compaction(),  # noqa: B008  # frozen
    guard: Guard | None = None,
    reached: LimitReached | None = None,
) -> Decision:
    """Decide from the stored messages.

    Args:
        messages: What of the history the model may see, in order: see `after_boundary`.
        steps: Model steps committed in this turn.
        max_steps: How many there may be.
        compaction: When to summarise.
        guard: When circles of the model are noticed; None leaves it alone.
        reached: A limit of the turn that is used up.
    """
    last = next((m for m in reversed(messages) if is_for_model(m)), None)
    if last is None:
        return FinishTurn("completed")
    calls = local_calls(last.parts) if last.role is Role.ASSISTANT else ()
    if calls:  # answered ones would have a message after them
        return RunTools(calls) if RUNS_CALLS[last.stop] else FinishTurn("completed", calls)
    ended = any(_ends_turn(part) for part in last.parts)
    finished = (
        last.boundary == "summary-at-rest"
        or (last.role is Role.ASSISTANT and last.stop != "pause")
        or ended
        # A chat that rested and works only to be summarised. Without a summary it rests again: what
        # was interrupted before does not go on by itself.
        or (steps == 0 and not unanswered(messages))
    )
    if compaction.requested and can_be_summarised(messages):
        return Compact("manual", at_rest=_rests(messages, finished=finished))
    if last.role is Role.ASSISTANT and last.stop in _LAST_WORDS:
        return FinishTurn("completed")
    if steps >= max_steps and not finished:
        return FinishTurn("step_limit")
    if _is_full(messages, compaction):
        if not finished:
            if holds_only_a_summary(messages):
                return Fail(NO_ROOM)
            return Compact("automatic")
        # A tool that ends the turn has ended it: the next one begins with the summary.
        may_reenter = compaction.may_reenter and not ended
        if may_reenter and steps < max_steps and not holds_only_a_summary(messages):
            return Compact("automatic")
    return FinishTurn("completed") if finished else _next_call(messages, guard, reached)


def _next_call(
    messages: Sequence[Message], guard: Guard | None, reached: LimitReached | None
) -> Decision:
    """The model is to be called, unless something speaks against it."""
    if guard is not None:
        circle = find_circle(messages)
        if circle.ends(guard):
            return FinishTurn("loop")
        if circle.wants_notice(guard):
            return Remind()
    return CallModel() if reached is None else Pause(reached)


def _is_full(messages: Sequence[Message], compaction: Compaction) -> bool:
    window = compaction.window
    return window is not None and compaction.may_start and window.is_full(last_usage(messages))


def _rests(messages: Sequence[Message], *, finished: bool) -> bool:
    """Whether a summary that a person asked for is all that is to be done.

    It goes on in the middle of a turn (results of tools wait for the model), and where a question
    was never answered. A turn that had ended, however it did, stays ended.
    """
    return finished and not unanswered(messages)


def _ends_turn(part: object) -> bool:
    return isinstance(part, ToolResultPart) and part.ends_turn


def after_boundary(messages: Sequence[Message]) -> Sequence[Message]:
    """What the model may see of a history: the newest summary, and everything after a boundary."""
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if message.boundary is not None and not message.deleted:
            return messages[position + 1 :] if message.boundary == "clear" else messages[position:]
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
