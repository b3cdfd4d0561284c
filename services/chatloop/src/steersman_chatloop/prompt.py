"""From stored history to what a model is shown: visible, paired and ending with input.

Pure. A well-formed history passes through as the same objects, so that the prefix of one request is
the prefix of the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from steersman_chatloop.providers.neutral import CONTINUE
from steersman_chatloop.providers.plain import Beginning
from steersman_contracts.chats import Message, Role, Visibility
from steersman_contracts.parts import (
    ContextFilePart,
    FilePart,
    FileReferencePart,
    Part,
    Parts,
    ReasoningPart,
    SkillPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

INTERRUPTED: Final = "interrupted before it produced a result"
EARLIER: Final = "(The earlier conversation is not shown.)"

_INPUT_PARTS: Final = (TextPart, FilePart, FileReferencePart, ContextFilePart, SkillPart)
_OUTPUT_PARTS: Final = (
    TextPart,
    ReasoningPart,
    ToolCallPart,
    ToolResultPart,
    SourcePart,
    FilePart,
)


def prepare(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Make a history fit to be sent.

    Drops what the model must not see and what is empty, gives every local tool call exactly one
    result directly after its message, keeps provider-executed calls only with their results, and
    lets the history begin and end with input.
    """
    return _framed(list(_paired(_visible(messages))))


class Preparation:
    """`prepare` for one history that grows: what was looked at once is not looked at again.

    Every step of a turn sends the whole conversation, and preparing 10,000 messages takes longer
    than all else that a step costs.
    """

    def __init__(self) -> None:
        self._seen: list[Message] = []
        self._prepared: list[Message] = []
        """What `_seen` comes to, whatever follows it."""
        self._plain = 0
        self.beginning = Beginning()
        """What the prepared messages begin with, as it was sent."""

    def prepare(self, messages: Sequence[Message]) -> tuple[tuple[Message, ...], int]:
        """As `prepare`.

        Returns:
            The messages, and how many of the first ones are known to hold no files.
        """
        at = len(self._seen)
        # The same objects, nearly always: those compare at once.
        if list(messages[:at]) != self._seen or not _begins_a_group(messages[at:]):
            self._seen, self._prepared, self._plain, at = [], [], 0, 0
        cut = _last_group(messages, at)
        for message in _paired(_visible(messages[at:cut]), at_end=False):
            if self._plain == len(self._prepared) and not _holds_files(message):
                self._plain += 1
            self._prepared.append(message)
        self._seen += messages[at:cut]
        return _framed([*self._prepared, *_paired(_visible(messages[cut:]))]), self._plain


def _last_group(messages: Sequence[Message], start: int) -> int:
    """Where the last message begins, with the results that may follow it."""
    for at in range(len(messages) - 1, start, -1):
        if messages[at].role is not Role.TOOL and _is_visible(messages[at]):
            return at
    return start


def _begins_a_group(messages: Sequence[Message]) -> bool:
    """Whether these show that what is before them has ended."""
    first = next(filter(_is_visible, messages), None)
    return first is not None and first.role is not Role.TOOL


def _holds_files(message: Message) -> bool:
    return any(
        isinstance(part, FilePart)
        or (isinstance(part, ToolResultPart) and any(isinstance(c, FilePart) for c in part.content))
        for part in message.parts
    )


def _is_visible(message: Message) -> bool:
    return bool(not message.deleted and message.visibility is not Visibility.USER and message.parts)


def _visible(messages: Iterable[Message]) -> list[Message]:
    return list(filter(_is_visible, messages))


def _paired(messages: Sequence[Message], *, at_end: bool = True) -> Iterator[Message]:
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message.role is Role.TOOL:
            continue  # not directly after the calls that it answers
        if message.role is not Role.ASSISTANT:
            parts = tuple(p for p in message.parts if isinstance(p, _INPUT_PARTS))
            yield from _kept(message, parts)
            continue
        results: list[Message] = []
        while at < len(messages) and messages[at].role is Role.TOOL:
            results.append(messages[at])
            at += 1
        # A paused turn ends with a call that its provider goes on with when it sees it again.
        paused = message.stop == "pause" and at == len(messages) and at_end
        parts = _own_parts(message.parts, keep_open=paused)
        yield from _kept(message, parts)
        calls = [p for p in parts if isinstance(p, ToolCallPart) and not p.provider_executed]
        if calls:
            yield _answers(message, calls, results)


def _kept(message: Message, parts: Parts) -> Iterator[Message]:
    is_input = message.role is not Role.ASSISTANT
    if all(_is_blank(part, is_input=is_input) for part in parts):
        return
    same = len(parts) == len(message.parts)
    yield message if same else msgspec.structs.replace(message, parts=parts)


def _is_blank(part: Part, *, is_input: bool) -> bool:
    return (
        isinstance(part, TextPart | ReasoningPart)
        and not part.text.strip()
        and (part.provider_metadata is None or is_input)
    )


def _own_parts(parts: Parts, *, keep_open: bool) -> Parts:
    """What an assistant message may hold: each call once, provider-executed pairs whole."""
    finished = _finished_by_provider(parts)
    waiting = dict(finished)
    seen: set[str] = set()
    kept: list[Part] = []
    for part in parts:
        match part:
            case ToolCallPart():
                is_open = part.provider_executed and part.call_id not in finished
                if part.call_id in seen or (is_open and not keep_open):
                    continue
                seen.add(part.call_id)
            case ToolResultPart():
                if not part.provider_executed or waiting.get(part.call_id) is not part:
                    continue
                del waiting[part.call_id]
            case _:
                if not isinstance(part, _OUTPUT_PARTS):
                    continue
        kept.append(part)
    return tuple(kept)


def _finished_by_provider(parts: Parts) -> dict[str, ToolResultPart]:
    """The first result after each provider-executed call."""
    calls: set[str] = set()
    finished: dict[str, ToolResultPart] = {}
    taken: set[str] = set()
    for part in parts:
        if isinstance(part, ToolCallPart) and part.call_id not in taken:
            taken.add(part.call_id)
            if part.provider_executed:
                calls.add(part.call_id)
        elif isinstance(part, ToolResultPart) and part.provider_executed and part.call_id in calls:
            finished.setdefault(part.call_id, part)
    return finished


def _answers(message: Message, calls: Sequence[ToolCallPart], found: Sequence[Message]) -> Message:
    """The tool message for `calls`: the stored one if it fits."""
    by_id: dict[str, ToolResultPart] = {}
    for part in _parts(found):
        if isinstance(part, ToolResultPart) and not part.provider_executed:
            by_id.setdefault(part.call_id, part)
    results = tuple(by_id.get(call.call_id) or _interrupted(call) for call in calls)
    if len(found) == 1 and _same(results, found[0].parts):
        return found[0]
    if found:
        return msgspec.structs.replace(found[0], parts=results)
    return Message(
        id=message.id,
        role=Role.TOOL,
        parts=results,
        revision=message.revision,
        created_at=message.created_at,
        visibility=message.visibility,
    )


def _parts(messages: Iterable[Message]) -> Iterator[Part]:
    for message in messages:
        yield from message.parts


def _same(left: Parts, right: Parts) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


def _interrupted(call: ToolCallPart) -> ToolResultPart:
    text = INTERRUPTED if call.invalid is None else "the arguments were not a JSON object"
    return ToolResultPart(call.call_id, call.tool, (TextPart(text),), is_error=True)


def _framed(messages: list[Message]) -> tuple[Message, ...]:
    """Begin and end with input; a paused turn ends as it is, and adapters know what it needs."""
    if not messages:
        return ()
    at = next((i for i, m in enumerate(messages) if m.role is not Role.SYSTEM), len(messages))
    if at == len(messages):
        messages.append(_said(messages[-1], EARLIER))
    elif messages[at].role is not Role.USER:
        messages.insert(at, _said(messages[at], EARLIER))
    last = messages[-1]
    if last.role is Role.ASSISTANT and last.stop != "pause":
        messages.append(_said(last, CONTINUE))
    return tuple(messages)


def _said(near: Message, text: str) -> Message:
    return Message(
        id=near.id,
        role=Role.USER,
        parts=(TextPart(text),),
        revision=near.revision,
        created_at=near.created_at,
        visibility=Visibility.MODEL,
    )
