"""Bytes to text and back, and text that fits into a result."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from typing import Final, Literal

RESULT_MAX: Final = 64 * 1024
"""Bytes of UTF-8 in the text of one result."""

LineEndings = Literal["none", "lf", "crlf", "mixed"]

Encoding = Literal["utf-8", "utf-16-le", "utf-16-be"]

_MARKS: Final[tuple[tuple[bytes, Encoding], ...]] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class NotText(Exception):
    """The bytes are not text that is understood. The message says what they seem to be."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a file, with its line endings as they are."""

    body: str
    mark: bytes = b""
    """The byte order mark of the file."""
    encoding: Encoding = "utf-8"

    def encode(self) -> bytes:
        """The bytes of the file; a byte order mark that was there is there again."""
        return self.mark + self.body.encode(self.encoding)

    def with_body(self, body: str) -> Text:
        """Another text in the same encoding."""
        return replace(self, body=body)


def decode(data: bytes, *, whole: bool = True) -> Text:
    """Decode UTF-8, or UTF-16 with a byte order mark.

    Args:
        data: From the start of the file.
        whole: False if the file goes on: a character that is cut at the end is left out then.

    Raises:
        NotText: It is something else.
    """
    if data.startswith(_UTF32):
        raise NotText("UTF-32 text, not UTF-8")
    mark, encoding = next(
        (known for known in _MARKS if data.startswith(known[0])), (b"", _MARKS[0][1])
    )
    try:
        body = codecs.getincrementaldecoder(encoding)().decode(data[len(mark) :], final=whole)
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise NotText("binary data") from error
        raise NotText("not UTF-8: text in Latin-1 or another encoding, or binary data") from error
    if "\0" in body:
        raise NotText("binary data")
    return Text(body, mark, encoding)


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
