"""What a file is, told from its content. A name only tells kinds of text apart."""

from __future__ import annotations

import codecs
from pathlib import PurePosixPath
from typing import Final

import msgspec

from steersman_contracts.rpc.files import MediaType

_MAGIC: Final[tuple[tuple[bytes, MediaType], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_TEXTS: Final[dict[str, MediaType]] = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
}
_NOT_TEXT: Final = frozenset(range(0x20)) - frozenset(b"\t\n\r\f\x1b")
"""Control characters that no text file has; the escape character is in logs of terminals."""


def is_json(content: bytes) -> bool:
    """Whether a text is a JSON object or array; a bare number or string is a text like any."""
    if content.lstrip(b" \t\r\n")[:1] not in (b"{", b"["):
        return False
    try:
        # Checks the whole syntax and builds nothing.
        msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class Content:
    """Looks at a file chunk by chunk, and keeps no more than it needs.

    That is the beginning; and the whole of a text that may be JSON, which cannot be told from less.
    """

    def __init__(self) -> None:
        self._binary: MediaType | None = None
        self._text = True
        self._started = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json: bytearray | None = None

    def feed(self, chunk: bytes) -> None:
        """Look at the next chunk; only the last may be short."""
        if not self._started:
            self._started = True
            self._binary = _binary(chunk)
            if chunk.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")[:1] in (b"{", b"["):
                self._json = bytearray()
        if self._binary is None and self._text:
            self._text = self._is_text(chunk)
            if self._json is not None and self._text:
                self._json += chunk

    def _is_text(self, chunk: bytes) -> bool:
        try:
            self._utf8.decode(chunk)
        except UnicodeDecodeError:
            return False
        return not chunk.translate(None, _ALLOWED)

    def media_type(self, name: str) -> MediaType | None:
        """What it is; None for what cannot be stored."""
        if self._binary is not None:
            return self._binary
        if not self._text or self._utf8.getstate()[0]:  # cut in the middle of a character
            return None
        if self._json is not None and is_json(bytes(self._json).removeprefix(codecs.BOM_UTF8)):
            return "application/json"
        return _TEXTS.get(PurePosixPath(name.lower()).suffix, "text/plain")


_ALLOWED: Final = bytes(set(range(0x100)) - _NOT_TEXT)


def _binary(head: bytes) -> MediaType | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
