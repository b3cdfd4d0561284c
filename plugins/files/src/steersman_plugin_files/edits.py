"""Search and replace, as values: a text and an edit give the next text, or a reason why not."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from steersman_plugin_files.text import clip_line, lines_of

REPLACED_MAX: Final = 100_000
"""Matches of one edit."""
COUNTED_MAX: Final = 1_000
"""Matches that are counted where one is meant; each may take as long as the text is long."""
COMPARED_MAX: Final = 1_000_000
"""Lines that are compared to say what comes closest."""
LOOK_ALIKE_LINES: Final = 2_000
"""Looking for similar lines takes time that grows with the file; larger files go without."""


class EditRefused(Exception):
    """The edit does not fit the text. The message says what was found instead."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A text on its way from the original.

    Attributes:
        text: What it is now.
        origins: For each line now, the index of the line that it was in the original; None if new.
    """

    text: str
    origins: tuple[int | None, ...]

    @classmethod
    def of(cls, text: str) -> Draft:
        """The original itself."""
        return cls(text, tuple(range(len(lines_of(text)))))


def apply_edit(
    draft: Draft, search: str, replace: str, *, replace_all: bool = False, max_size: int
) -> tuple[Draft, int]:
    r"""Replace `search` once, or everywhere.

    Line endings are the file's: `\n` and `\r\n` in `search` find both, and `replace` takes the
    ending of the line where it begins. Everything else is exact.

    Args:
        draft: The text so far.
        search: Not empty.
        replace: What comes instead.
        replace_all: Whether more than one match is meant; they do not overlap then.
        max_size: Bytes of UTF-8 that the result may have.

    Returns:
        The next draft, and how many matches were replaced.

    Raises:
        EditRefused: No match, more than one without `replace_all`, no change, or too large.
    """
    view = _View(draft.text)
    needle, new = search.replace("\r\n", "\n"), replace.replace("\r\n", "\n")
    if not needle:
        raise EditRefused("search is empty; give the text to replace, or use write_file")
    try:
        needle_size, new_size = len(needle.encode()), len(new.encode())
    except UnicodeEncodeError as error:
        raise EditRefused("it is not valid Unicode; remove lone surrogates") from error
    if needle == new:
        raise EditRefused("search and replace are the same; leave the edit out")
    most = REPLACED_MAX if replace_all else COUNTED_MAX
    found = view.find(needle, overlapping=not replace_all, most=most + 1)
    if not found:
        raise EditRefused(f"search was not found; {nearest(view.text, needle)}")
    if replace_all and len(found) > most:
        raise EditRefused(
            f"search was found more than {most} times; use sed or a script with execute"
        )
    if len(found) > 1 and not replace_all:
        times = f"more than {most}" if len(found) > most else str(len(found))
        raise EditRefused(
            f"search was found {times} times, at {_lines(view, found)}; add lines around it "
            "until it is unique, or set replace_all"
        )
    grown = len(found) * (new_size + new.count("\n") - needle_size)
    if len(draft.text.encode()) + grown > max_size:
        raise EditRefused(f"the file would grow over {max_size} bytes; replace less")
    spans = [
        (view.raw(at), view.raw(at + len(needle)), new.replace("\n", view.ending(at)))
        for at in found
    ]
    return _replaced(draft, spans), len(spans)


class _View:
    r"""A text with `\n` for every line ending, and the way back to the text itself."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self._crlf: list[int] = []
        self._newlines: list[int] = []
        if len(self.text) != len(text):
            starts = [match.start() for match in re.finditer("\r\n", text)]
            self._crlf = [start - index for index, start in enumerate(starts)]
            self._newlines = [match.start() for match in re.finditer("\n", self.text)]

    def find(self, needle: str, *, overlapping: bool, most: int) -> list[int]:
        found: list[int] = []
        at = self.text.find(needle)
        while at >= 0 and len(found) < most:
            found.append(at)
            at = self.text.find(needle, at + (1 if overlapping else len(needle)))
        return found

    def raw(self, at: int) -> int:
        return at + bisect_left(self._crlf, at)

    def ending(self, at: int) -> str:
        if not self._crlf:
            return "\n"
        index = min(bisect_left(self._newlines, at), len(self._newlines) - 1)
        newline = self._newlines[index]
        position = bisect_left(self._crlf, newline)
        crlf = position < len(self._crlf) and self._crlf[position] == newline
        return "\r\n" if crlf else "\n"


def _replaced(draft: Draft, spans: Sequence[tuple[int, int, str]]) -> Draft:
    lines = lines_of(draft.text)
    ends = list(accumulate(map(len, lines)))
    text: list[str] = []
    origins: list[int | None] = []
    at = line = 0
    index = 0
    while index < len(spans):
        first = bisect_right(ends, spans[index][0])
        begin = ends[first - 1] if first else 0
        text.append(draft.text[at:begin])
        origins += draft.origins[line:first]
        # A region is whole lines. It takes in the line after each match, so that it ends where a
        # line ends whatever the replacement ends with.
        region: list[str] = []
        at, last = begin, first
        while index < len(spans) and bisect_right(ends, spans[index][0]) <= last:
            start, end, new = spans[index]
            region += (draft.text[at:start], new)
            at, last = end, min(bisect_right(ends, end), len(lines) - 1)
            index += 1
        region.append(draft.text[at : ends[last]])
        at, line = ends[last], last + 1
        joined = "".join(region)
        text.append(joined)
        origins += [None] * len(lines_of(joined))
    text.append(draft.text[at:])
    origins += draft.origins[line:]
    return Draft("".join(text), tuple(origins))


def _lines(view: _View, found: Sequence[int], most: int = 5) -> str:
    numbers = [str(view.text.count("\n", 0, at) + 1) for at in found[:most]]
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    if len(found) > COUNTED_MAX:
        rest = " and on"
    return f"line {', '.join(numbers)}{rest}"


def nearest(text: str, search: str) -> str:
    """Say what in `text` comes closest to `search`, for the next attempt."""
    lines, wanted = text.split("\n"), search.strip("\n").split("\n")
    stripped, sought = [line.strip() for line in lines], [line.strip() for line in wanted]
    if not any(sought):
        return "read the file again"
    closest: tuple[int, int] | None = None
    left = COMPARED_MAX
    for start in (index for index, line in enumerate(stripped) if line == sought[0]):
        same = _agreeing(stripped, sought, start, left)
        if same == len(sought):
            return (
                f"the same text with other white space begins at line {start + 1}, "
                f"which is {clip_line(lines[start], 200)!r}"
            )
        left -= same
        if left <= 0:
            break
        if closest is None or same > closest[1]:
            closest = start, same
    if closest is not None:
        start, same = closest
        there = lines[start + same] if start + same < len(lines) else None
        found = "the end of the file" if there is None else repr(clip_line(there, 200))
        return (
            f"its first {same} of {len(wanted)} lines are at line {start + 1}, but then comes "
            f"{found}, not {clip_line(wanted[same], 200)!r}"
        )
    if len(lines) <= LOOK_ALIKE_LINES:
        alike = difflib.get_close_matches(
            sought[0][:400], [line[:400] for line in stripped], 1, 0.7
        )
        if alike:
            number = next(i for i, line in enumerate(stripped) if line[:400] == alike[0])
            shown = clip_line(lines[number], 200)
            return f"the line most like its first is line {number + 1}: {shown!r}"
    return "no line of the file is like its first line; read the file again"


def _agreeing(lines: Sequence[str], wanted: Sequence[str], start: int, most: int) -> int:
    end = min(len(wanted), len(lines) - start, most)
    return next((n for n in range(end) if lines[start + n] != wanted[n]), end)
