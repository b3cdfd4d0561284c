"""What a tool answered, cut to what a model and a message on the wire can take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import FilePart, JsonPart, ResultContent, SourcePart, TextPart
from steersman_contracts.rpc.tools import CallResult

MAX_PARTS: Final = 1_000
_MARKER: Final = "\n[… {} bytes left out …]\n"
_DROPPED: Final = "[… {} more parts left out …]"
_SMALLEST: Final = 64
"""Bytes below which a cut text says nothing but its marker."""


class BadResult(ValueError):
    """The result is not what `ToolResult` promises."""


class Limits(msgspec.Struct, frozen=True):
    """How much of a result is kept."""

    text_bytes: int
    """Of text and JSON together, at least 1 KiB."""
    file_bytes: int
    """Of inline files together, before base64."""
    largest: int = 0
    """Of text and JSON, for who can take more than usual."""

    def of(self, wanted: int | None) -> Limits:
        """The limits for who can take so many bytes of text and JSON; None is the usual."""
        if wanted is None:
            return self
        most = max(self.text_bytes, self.largest)
        return msgspec.structs.replace(self, text_bytes=max(1024, min(wanted, most)))


def to_call_result(result: ToolResult, *, duration_ms: int, limits: Limits) -> CallResult:
    """The result as it is kept and sent.

    Raises:
        BadResult: It holds what is no part, or a value that is no JSON.
    """
    try:
        parts = [_encodable(part) for part in result.parts()]
        # There and back: checks the types, and takes a copy that the tool cannot change any more.
        checked = msgspec.json.decode(msgspec.json.encode(parts), type=list[ResultContent])
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise BadResult(str(error)) from error
    return CallResult(
        _cut_parts(checked, limits), is_error=bool(result.is_error), duration_ms=duration_ms
    )


def cut(text: str, max_bytes: int) -> str:
    """Shorten `text` to `max_bytes` of UTF-8: the first two thirds, a marker, the last third.

    The marker says how many bytes were left out. Where not even the marker fits, it stays alone.
    """
    data = text.encode()
    if len(data) <= max_bytes:
        return text
    room = max(0, max_bytes - len(_MARKER.format(len(data)).encode()))
    head = data[: room - room // 3].decode(errors="ignore")
    tail = data[len(data) - room // 3 :].decode(errors="ignore")
    left_out = len(data) - len(head.encode()) - len(tail.encode())
    return head + _MARKER.format(left_out) + tail


def _encodable(part: ResultContent) -> ResultContent:
    # A lone surrogate, such as from an undecodable file name, has no form in UTF-8.
    if isinstance(part, TextPart) and isinstance(part.text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # plugins are not type-checked here
        return TextPart(part.text.encode(errors="replace").decode())
    if isinstance(part, SourcePart) and isinstance(part.url, str) and isinstance(part.title, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # as above
        return SourcePart(
            part.url.encode(errors="replace").decode(),
            part.title.encode(errors="replace").decode(),
        )
    return part


def _cut_parts(parts: Sequence[ResultContent], limits: Limits) -> tuple[ResultContent, ...]:
    kept: list[ResultContent] = []
    text, files = limits.text_bytes - _SMALLEST, limits.file_bytes  # leaves room for `_DROPPED`
    for part in parts:
        if text < _SMALLEST or len(kept) >= MAX_PARTS:
            kept.append(TextPart(_DROPPED.format(len(parts) - len(kept))))
            break
        shown = _cut_part(part, text, files)
        kept.append(shown)
        match shown:
            case TextPart():
                text -= len(shown.text.encode())
            case JsonPart():
                text -= len(msgspec.json.encode(shown.value))
            case FilePart():
                files -= len(shown.data or b"")
            case SourcePart():
                text -= _size(shown)
    return tuple(kept)


def _cut_part(part: ResultContent, text: int, files: int) -> ResultContent:
    """JSON that does not fit becomes cut text; a file that does not fit, a sentence about it."""
    match part:
        case TextPart():
            return TextPart(cut(part.text, text))
        case JsonPart():
            encoded = msgspec.json.encode(part.value)
            return part if len(encoded) <= text else TextPart(cut(encoded.decode(), text))
        case FilePart():
            size = len(part.data or b"")
            if size <= files:
                return part
            what = f"[{part.name or 'a file'}: {part.media_type}, {size} bytes, too large to show]"
            return TextPart(cut(what, text))
        case SourcePart():
            return part if _size(part) <= text else TextPart(cut(f"[source: {part.url}]", text))


def _size(source: SourcePart) -> int:
    return len(source.url.encode()) + len(source.title.encode())
