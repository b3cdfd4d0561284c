"""Markdown that is still being written: which of its blocks are finished, and how they look."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from markdown_it import MarkdownIt  # Rich's own parser
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment

Row: TypeAlias = list[Segment]
Rows: TypeAlias = list[Row]

_CODE_THEME: Final = "ansi_dark"  # the terminal's own colours, on its own background
_FENCE: Final = re.compile(r" {0,3}(`{3,}(?=[^`\n]*$)|~{3,})", re.MULTILINE)
_parser = MarkdownIt().enable("table").enable("strikethrough")


class Split(NamedTuple):
    """The blocks of a text. Joined again they are the text."""

    finished: list[str]
    tail: str
    """The last block: what comes next may change what it is."""


def split(text: str) -> Split:
    """Cut Markdown at its outermost blocks."""
    if _is_open_code(text):  # often long, and looked at many times: nothing in it has to be parsed
        return Split([], text)
    starts = [token.map[0] for token in _parser.parse(text) if token.level == 0 and token.map]
    starts = sorted(set(starts))
    if len(starts) < 2:
        return Split([], text)
    lines = text.split("\n")
    # Whatever comes before the first block belongs to it.
    places = [0, *starts[1:], len(lines)]
    blocks = ["\n".join(lines[a:b]) + "\n" for a, b in pairwise(places)]
    return Split(blocks[:-1], blocks[-1][:-1])


def _is_open_code(text: str) -> bool:
    fence = _FENCE.match(text)
    if fence is None:
        return False
    end = re.compile(rf"^ {{0,3}}{re.escape(fence[1][0])}{{{len(fence[1])},}}[ \t]*$", re.MULTILINE)
    return end.search(text, fence.end()) is None


def markdown_rows(console: Console, text: str) -> Rows:
    """Markdown as lines of the terminal, without empty ones at either end."""
    markdown = Markdown(text, code_theme=_CODE_THEME, hyperlinks=False)
    return strip_rows(to_rows(console, markdown))


def to_rows(console: Console, renderable: RenderableType) -> Rows:
    """Anything as lines of the terminal."""
    options = console.options.update(height=None)
    return [_trim(row) for row in console.render_lines(renderable, options, pad=False)]


def strip_rows(rows: Rows) -> Rows:
    """Without empty lines at either end."""
    full = [place for place, row in enumerate(rows) if any(part.text.strip() for part in row)]
    return rows[full[0] : full[-1] + 1] if full else []


def _trim(row: Row) -> Row:
    """Without spaces at the end: they get in the way when text is copied."""
    kept = list(row)
    while kept and not kept[-1].control and not _colours(kept[-1]):
        text = kept[-1].text.rstrip(" ")
        if text:
            kept[-1] = Segment(text, kept[-1].style)
            break
        kept.pop()
    return kept


def _colours(part: Segment) -> bool:
    return part.style is not None and part.style.bgcolor is not None


def window(text: str, height: int) -> str:
    """The end of an unfinished block: no more than fits a screen has to be rendered each time."""
    lines = text.split("\n")
    # Lines with something on them take up at least one row each.
    full = [place for place, line in enumerate(lines) if line.strip()]
    if len(full) <= height:
        return text
    fence = [lines[0]] if _FENCE.match(text) else []
    return "\n".join([*fence, *lines[full[-height] :]])


class Lines:
    """Rows as something that Rich prints."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line each; the caller made them fit."""
        for row in self.rows:
            yield from row
            yield Segment.line()
