"""Unified diffs of drafts, in time that grows with the changes and not with the file.

A diff of two texts has to find out what corresponds; a draft knows. `difflib` alone needs minutes
for some files of a few megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, NamedTuple

from steersman_plugin_files.edits import Draft
from steersman_plugin_files.text import lines_of

CONTEXT: Final = 3
REFINED: Final = 100
"""Lines of a change up to which it is looked at line by line; a larger one is shown as a whole."""


class Block(NamedTuple):
    """Lines `old_start:old_end` became lines `new_start:new_end`."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def hunks(original: str, draft: Draft) -> Iterator[list[str]]:
    """Yield the hunks between a text and its draft, each as lines without line ends."""
    old, new = lines_of(original), lines_of(draft.text)
    group: list[Block] = []
    for block in _blocks(old, new, draft.origins):
        if group and block.old_start - group[-1].old_end > 2 * CONTEXT:
            yield _hunk(old, new, group)
            group = []
        group.append(block)
    if group:
        yield _hunk(old, new, group)


def _blocks(
    old: Sequence[str], new: Sequence[str], origins: Sequence[int | None]
) -> Iterator[Block]:
    old_at = new_at = 0
    for index, origin in enumerate((*origins, len(old))):
        if origin is None:
            continue
        if origin > old_at or index > new_at:
            yield from _refined(old, new, Block(old_at, origin, new_at, index))
        old_at, new_at = origin + 1, index + 1


def _refined(old: Sequence[str], new: Sequence[str], block: Block) -> Iterator[Block]:
    i, end_i, j, end_j = block
    while i < end_i and j < end_j and old[i] == new[j]:
        i, j = i + 1, j + 1
    while i < end_i and j < end_j and old[end_i - 1] == new[end_j - 1]:
        end_i, end_j = end_i - 1, end_j - 1
    if end_i - i > REFINED or end_j - j > REFINED:
        yield Block(i, end_i, j, end_j)
        return
    matcher = SequenceMatcher(None, old[i:end_i], new[j:end_j], autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            yield Block(i + a, i + b, j + c, j + d)


def _hunk(old: Sequence[str], new: Sequence[str], group: Sequence[Block]) -> list[str]:
    before = min(CONTEXT, group[0].old_start)
    after = min(CONTEXT, len(old) - group[-1].old_end)
    start, end = group[0].old_start - before, group[-1].old_end + after
    new_start, new_end = group[0].new_start - before, group[-1].new_end + after
    lines = [f"@@ -{_range(start, end)} +{_range(new_start, new_end)} @@"]
    at = start
    for block in group:
        lines += _shown(" ", old[at : block.old_start])
        lines += _shown("-", old[block.old_start : block.old_end])
        lines += _shown("+", new[block.new_start : block.new_end])
        at = block.old_end
    return lines + _shown(" ", old[at:end])


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _shown(sign: str, lines: Sequence[str]) -> list[str]:
    shown: list[str] = []
    for line in lines:
        shown.append(sign + line.removesuffix("\n").removesuffix("\r"))
        if not line.endswith("\n"):
            shown.append("\\ No newline at end of file")
    return shown
