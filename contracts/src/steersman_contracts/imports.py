"""Histories from elsewhere: checked and put into the shape that ours always have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from steersman_contracts.chats import Role
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

NO_RESULT: Final = "no result was recorded"

_ALLOWED: Final[dict[Role, tuple[type[Part], ...]]] = {
    Role.SYSTEM: (TextPart,),
    Role.USER: (TextPart, FilePart, FileReferencePart, ContextFilePart, SkillPart),
    Role.ASSISTANT: (TextPart, ReasoningPart, ToolCallPart, ToolResultPart, SourcePart, FilePart),
    Role.TOOL: (ToolResultPart,),
}


class ImportedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a history from elsewhere."""

    role: Role
    parts: Parts
    created_at: datetime | None = None
    model: str | None = None


class NotAHistory(ValueError):
    """A message that cannot be where it is.

    Attributes:
        index: Which one, from 0.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def whole(messages: Sequence[ImportedMessage]) -> tuple[ImportedMessage, ...]:
    """Check a history, and give every local tool call exactly one result directly after it.

    Rows of results are joined into one message; a call without a result gets an error that says so.

    Raises:
        NotAHistory: A part that its role cannot have, or a result without a call.
    """
    found: list[ImportedMessage] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        _check_parts(at, message)
        if message.role is Role.TOOL:
            raise NotAHistory(at, "results that follow no calls")
        at += 1
        found.append(message)
        calls = [
            p for p in message.parts if isinstance(p, ToolCallPart) and not p.provider_executed
        ]
        if calls:
            end = next(
                (n for n in range(at, len(messages)) if messages[n].role is not Role.TOOL), None
            )
            end = len(messages) if end is None else end
            found.append(_results(at, message, calls, messages[at:end]))
            at = end
    return tuple(found)


def _check_parts(index: int, message: ImportedMessage) -> None:
    if not message.parts:
        raise NotAHistory(index, "a message without content")
    for part in message.parts:
        if not isinstance(part, _ALLOWED[message.role]):
            kind = part.__struct_config__.tag
            raise NotAHistory(index, f"a message of the {message.role.value} has no {kind!r}")
        of_provider = message.role is Role.ASSISTANT
        if isinstance(part, ToolResultPart) and part.provider_executed is not of_provider:
            raise NotAHistory(index, f"the result of {part.call_id!r} belongs elsewhere")


def _results(
    start: int,
    asked: ImportedMessage,
    calls: Sequence[ToolCallPart],
    rows: Sequence[ImportedMessage],
) -> ImportedMessage:
    wanted = {call.call_id: call for call in calls}
    if len(wanted) < len(calls):
        raise NotAHistory(start - 1, "two calls have the same id")
    results: dict[str, ToolResultPart] = {}
    for offset, row in enumerate(rows):
        _check_parts(start + offset, row)
        for part in row.parts:
            assert isinstance(part, ToolResultPart)  # its role has no others
            if part.call_id not in wanted or part.call_id in results:
                raise NotAHistory(start + offset, f"no call waits for the result {part.call_id!r}")
            results[part.call_id] = part
    parts = tuple(results.get(call.call_id) or _missing(call) for call in calls)
    when = rows[0].created_at if rows else asked.created_at
    return ImportedMessage(Role.TOOL, parts, when)


def _missing(call: ToolCallPart) -> ToolResultPart:
    return ToolResultPart(call.call_id, call.tool, (TextPart(NO_RESULT),), is_error=True)
