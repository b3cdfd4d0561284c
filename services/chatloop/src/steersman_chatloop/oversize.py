"""Cuts what is too large to be stored: a turn can end whatever a model or a tool produced."""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    Part,
    ReasoningPart,
    ResultContent,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.worker import NewMessage

_CAPS: Final = (1_000_000, 250_000, 60_000, 10_000, 1_000)
"""Characters that each text may keep, tried in this order."""

Messages = tuple[NewMessage, ...]


def fit(messages: Messages, max_bytes: int) -> Messages:
    """Cut the longest texts until the messages fit; what was cut is said at its place.

    Args:
        messages: What a step produced.
        max_bytes: How large their JSON may be.
    """
    cut = messages
    for cap in _CAPS:
        cut = tuple(
            msgspec.structs.replace(m, parts=tuple(_cut_part(part, cap) for part in m.parts))
            for m in messages
        )
        if len(msgspec.json.encode(cut)) <= max_bytes:
            return cut
    return tuple(msgspec.structs.replace(m, parts=m.parts[:50]) for m in cut)


def _cut_part(part: Part, cap: int) -> Part:
    match part:
        case TextPart() | ReasoningPart() if len(part.text) > cap:
            return type(part)(_cut(part.text, cap))  # a provider's block would no longer match
        case ToolCallPart() if len(msgspec.json.encode(part.arguments)) > cap:
            text = msgspec.json.encode(part.arguments).decode()
            return ToolCallPart(
                part.call_id, part.tool, {}, part.provider_executed, _cut(text, cap)
            )
        case ToolResultPart():
            content = tuple(_cut_content(item, cap) for item in part.content)
            return msgspec.structs.replace(part, content=content)
        case _:
            return part


def _cut_content(item: ResultContent, cap: int) -> ResultContent:
    match item:
        case TextPart() if len(item.text) > cap:
            return TextPart(_cut(item.text, cap))
        case JsonPart() if len(text := msgspec.json.encode(item.value).decode()) > cap:
            return TextPart(_cut(text, cap))
        case FilePart(data=bytes() as data) if len(data) > cap:
            return TextPart(f"[a file of {len(data)} bytes was too large to store]")
        case _:
            return item


def _cut(text: str, cap: int) -> str:
    return f"{text[:cap]}\n[{len(text) - cap} characters were too many to store]"
