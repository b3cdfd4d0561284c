"""Bytes to text and back, and text that fits into a result."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final, Literal

RESULT_MAX: Final = 64 * 1024
"""Bytes of UTF-8 in the text of one result."""

LineEndings = Literal["none", "lf", "crlf", "mixed"]

_WIDE: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class NotText(Exception):
    """The bytes are not UTF-8 text. The message says what they seem to be."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a file, with its line endings as they are."""

    body: str
    bom: bool = False

    def encode(self) -> bytes:
        """The bytes of the file; a byte order mark that was there is there again."""
        return (codecs.BOM_UTF8 if self.bom else b"") + self.body.encode()


def decode(data: bytes, *, whole: bool = True) -> Text:
    """Decode UTF-8.

    Args:
        data: From the start of the file.
        whole: False if the file goes on: a character that is cut at the end is left out then.

    Raises:
        NotText: It is something else.
    """
    for mark, encoding in _WIDE:
        if data.startswith(mark):
            raise NotText(f"{encoding} text, not UTF-8")
    if b"\0" in data:
        raise NotText("binary data")
    bom = data.startswith(codecs.BOM_UTF8)
    try:
        body = codecs.getincrementaldecoder("utf-8")().decode(
            data[len(codecs.BOM_UTF8) :] if bom else data, final=whole
        )
    except UnicodeDecodeError as error:
        raise NotText("not UTF-8: text in Latin-1 or another encoding, or binary data") from error
    return Text(body, bom)


def lines_of(text: str) -> list[str]:
    r"""Split after each `\n` and at nothing else, so that line numbers agree with other tools."""
    lines = text.split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else [])


def line_endings(text: str) -> LineEndings:
    """Say how the lines end."""
    ends, carriage = text.count("\n"), text.count("\r\n")
    if not ends:
        return "none"
    if not carriage:
        return "lf"
    return "crlf" if carriage == ends else "mixed"


def clip_line(line: str, limit: int) -> str:
    """Cut a line after `limit` characters, and say how many are missing."""
    over = len(line) - limit
    return line if over <= 0 else f"{line[:limit]}… [{over} more characters in this line]"


def shown_name(name: str) -> str:
    """A file name on one line, whatever bytes it holds."""
    if name.isprintable():
        return name
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in name
    )


class Page:
    """Lines of a result, up to a number of bytes."""

    def __init__(self, limit: int = RESULT_MAX) -> None:
        self._lines: list[str] = []
        self._room = limit

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: str) -> bool:
        """Take the line, unless there is no room for all of it."""
        size = len(line.encode()) + 1
        if size > self._room:
            return False
        self._lines.append(line)
        self._room -= size
        return True

    def text(self) -> str:
        """The lines, without a line end after the last."""
        return "\n".join(self._lines)
