"""From the result of a server's tool to parts."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final, TypeGuard, assert_never

import mcp_types as types
import msgspec

from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import FilePart, JsonPart, ResultContent, TextPart
from steersman_plugin_mcp.naming import clean, line

MAX_PARTS: Final = 100
MAX_TEXT: Final = 256 << 10
"""Characters of text and JSON in one result; the service cuts it further."""
MAX_FILES: Final = 6 << 20
"""Bytes of files in one result."""
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63}")
_LEFT_OUT: Final = "[… {} left out …]"


class _Room:
    """What may still be added."""

    def __init__(self) -> None:
        self.text = MAX_TEXT
        self.files = MAX_FILES

    def take(self, text: str) -> TextPart:
        kept = text[: self.text]
        self.text -= len(kept)
        dropped = len(text) - len(kept)
        return TextPart(kept + (_LEFT_OUT.format(f"{dropped} characters") if dropped else ""))


def to_result(result: types.CallToolResult) -> ToolResult:
    """Everything that the server said, as far as it fits."""
    room = _Room()
    blocks = list(result.content)
    structured = result.structured_content
    texts = [block.text for block in blocks if isinstance(block, types.TextContent)]
    if structured is not None and texts and len(texts) == len(blocks):
        # Servers send structured content as text once more, for clients that know no better.
        if len(texts) == 1 and structured == {"result": texts[0]}:
            structured = None
        elif _repeat(texts, structured):
            blocks = []
    parts = [_part(block, room) for block in blocks[:MAX_PARTS]]
    if len(blocks) > MAX_PARTS:
        parts.append(TextPart(_LEFT_OUT.format(f"{len(blocks) - MAX_PARTS} more parts")))
    if structured is not None:
        parts.append(_json(structured, room))
    return ToolResult(content=tuple(parts), is_error=bool(result.is_error))


def _repeat(texts: list[str], structured: Any) -> bool:
    """Whether the texts are the structured content, whole or element by element."""
    inner = _inner(structured)
    if len(texts) == 1 and _parsed(texts[0]) in (structured, inner):
        return True
    return (
        _is_array(inner)
        and len(inner) == len(texts)
        and all(item in (text, _parsed(text)) for item, text in zip(inner, texts, strict=True))
    )


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode(errors="replace"))
    except (msgspec.DecodeError, RecursionError):
        return _NOTHING


_NOTHING: Final = object()


def _inner(structured: Any) -> Any:
    match structured:
        case {"result": inner} if len(structured) == 1:
            return inner
        case _:
            return structured


def _json(value: Any, room: _Room) -> ResultContent:
    try:
        encoded = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return TextPart(_LEFT_OUT.format("structured content that is no plain JSON"))
    if len(encoded) <= room.text:
        room.text -= len(encoded)
        return JsonPart(value)
    return room.take(encoded.decode())


def _part(block: types.ContentBlock, room: _Room) -> ResultContent:
    match block:
        case types.TextContent(text=text):
            return room.take(text)
        case types.ImageContent(data=data, mime_type=kind):
            return _file(data, kind, "", room)
        case types.AudioContent(data=data, mime_type=kind):
            return _file(data, kind, "", room)
        case types.EmbeddedResource(resource=resource):
            return _resource(resource, room)
        case types.ResourceLink():
            what = ", ".join(
                line(text, 1_000)
                for text in (block.title or block.name, block.mime_type, block.description)
                if text
            )
            return room.take(f"[resource {line(str(block.uri), 2_000)}: {what}]")
        case _:
            assert_never(block)


def _resource(
    resource: types.TextResourceContents | types.BlobResourceContents, room: _Room
) -> ResultContent:
    uri = line(str(resource.uri), 2_000)
    match resource:
        case types.TextResourceContents(text=text):
            return room.take(f"[resource {uri}]\n{text}")
        case types.BlobResourceContents(blob=blob):
            return _file(blob, resource.mime_type or "", uri, room)


def _file(data: str, kind: str, uri: str, room: _Room) -> ResultContent:
    name = clean(uri.partition("?")[0].rstrip("/").rpartition("/")[2], 255)
    what = name or f"a file of type {line(kind, 127) or 'unknown'}"
    if len(data) // 4 * 3 - 2 > room.files:
        return room.take(_LEFT_OUT.format(f"{what}, too large to show,"))
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return room.take(_LEFT_OUT.format(f"{what}, which is not valid base64,"))
    room.files -= len(content)
    media_type = kind if _MEDIA_TYPE.fullmatch(kind) else "application/octet-stream"
    return FilePart(media_type, name=name, data=content)
