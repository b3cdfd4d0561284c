"""Notices a model that goes in circles: the same calls with the same results, again and again.

Pure, from the stored messages: whoever takes a chat over sees the same circles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from steersman_contracts.chats import Message, Role, Visibility
from steersman_contracts.parts import ToolCallPart, ToolResultPart

NOTICE: Final = (
    "(A note of the system: your last steps repeat themselves, with the same outcome each time. "
    "Doing the same again will not help. Find out why it fails, try something else, or say what "
    "keeps you from going on.)"
)
_LONGEST_CIRCLE: Final = 4
"""Steps that are alternated between."""
_PATIENCE: Final = 4
"""Steps that succeed may be waiting for something: it takes so many times as many of them."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Guard(NamedTuple):
    """After how many repetitions what happens."""

    notice_after: int
    end_after: int


class Circle(NamedTuple):
    """What was found at the end of a history."""

    repetitions: int
    """How often the same steps stand there, one after another."""
    failing: bool
    """At least one of their calls fails."""
    noticed: bool
    """The model was told since they began."""

    def ends(self, guard: Guard) -> bool:
        """Whether the turn is to end."""
        return self.repetitions >= guard.end_after * self._factor

    def wants_notice(self, guard: Guard) -> bool:
        """Whether the model is to be told."""
        return not self.noticed and self.repetitions >= guard.notice_after * self._factor

    @property
    def _factor(self) -> int:
        return 1 if self.failing else _PATIENCE


class _Step(NamedTuple):
    calls: tuple[tuple[str, bytes], ...]
    outcomes: tuple[bytes, ...]
    failing: bool


NO_CIRCLE: Final = Circle(0, failing=False, noticed=False)


def find_circle(messages: Sequence[Message], *, most_steps: int = 1000) -> Circle:
    """Look at the end of a turn.

    A step counts as repeated when it makes the same calls and they end alike: two failures are
    alike whatever they say, since a message may hold a time or a number.

    Args:
        messages: What the model sees. A message of a person is where a circle ends: something was
            said that may change everything.
        most_steps: How far to look back.
    """
    steps: list[_Step] = []
    noticed_at: int | None = None
    for item in _backwards(messages):
        if item is None:
            if noticed_at is None:
                noticed_at = len(steps)
            continue
        steps.append(item)
        if len(steps) == _LONGEST_CIRCLE + 1 and steps[0] not in steps[1:]:
            return NO_CIRCLE  # nearly always: the rest of the history is not looked at
        if len(steps) >= most_steps:
            break
    best = NO_CIRCLE
    for length in range(1, _LONGEST_CIRCLE + 1):
        count = _repetitions(steps, length)
        if count > max(1, best.repetitions):
            failing = any(step.failing for step in steps[:length])
            noticed = noticed_at is not None and noticed_at < count * length
            best = Circle(count, failing, noticed)
    return best


def _repetitions(newest_first: Sequence[_Step], length: int) -> int:
    if len(newest_first) < length:
        return 0
    pattern = newest_first[:length]
    count = 1
    while newest_first[count * length : (count + 1) * length] == pattern:
        count += 1
    return count


def _backwards(messages: Sequence[Message]) -> Iterator[_Step | None]:
    """The steps of the turn that made calls, newest first; None for our own notice."""
    results: dict[str, ToolResultPart] = {}
    for message in reversed(messages):
        if message.deleted or message.visibility is Visibility.USER:
            continue
        match message.role:
            case Role.TOOL:
                results |= {p.call_id: p for p in message.parts if isinstance(p, ToolResultPart)}
            case Role.ASSISTANT:
                step = _step(message, results)
                results = {}
                if step is None:
                    return
                yield step
            case _:
                if not _is_notice(message):
                    return
                yield None


def _is_notice(message: Message) -> bool:
    return message.visibility is Visibility.MODEL and any(
        getattr(part, "text", "") == NOTICE for part in message.parts
    )


def _step(message: Message, results: dict[str, ToolResultPart]) -> _Step | None:
    calls = [p for p in message.parts if isinstance(p, ToolCallPart) and not p.provider_executed]
    answered = [results[call.call_id] for call in calls if call.call_id in results]
    if not calls or len(answered) < len(calls):
        return None
    return _Step(
        tuple((call.tool, _encode([call.arguments, call.invalid])) for call in calls),
        tuple(b"" if result.is_error else _encode(result.content) for result in answered),
        any(result.is_error for result in answered),
    )
