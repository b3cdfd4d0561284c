"""Patches, as values: what they say, and what they make of a text.

Two forms are understood: `*** Begin Patch`, whose hunks are found by their lines alone, and unified
diffs, whose line numbers say which of several places is meant.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Literal

from steersman_plugin_files.edits import COUNTED_MAX, nearest
from steersman_plugin_files.text import clip_line, lines_of

BEGIN: Final = "*** Begin Patch"
END: Final = "*** End Patch"
_END_OF_FILE: Final = "*** End of File"
_FILE: Final = re.compile(r"\*\*\* (Add|Update|Delete) File: (.+)")
_MOVE: Final = "*** Move to: "
_RANGE: Final = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)")
_NO_NEWLINE: Final = "\\ No newline at end of file"
_SIGNS: Final = ("+", "-", " ")
_SIGNATURE: Final = "-- "
"""What comes after the last hunk of a mail."""
_OTHERS: Final = ("diff ", "Index: ", "```")
"""What may come after a hunk that has fewer lines than it says."""
_WITHOUT_HUNKS: Final = (
    *("new file mode ", "deleted file mode ", "old mode ", "rename from ", "copy from "),
    *("Binary files ", "GIT binary patch"),
)
"""What git says of a file beside hunks, or in place of them."""


class PatchRefused(Exception):
    """The patch cannot be read, or does not fit. The message says where and why."""


@dataclass(slots=True)
class Hunk:
    """Lines that become other lines."""

    anchor: str = ""
    """A line above; the place is looked for below it."""
    line: int | None = None
    """Where the place was in the original, from 0; the closest one is meant."""
    old: list[str] = field(default_factory=list[str])
    new: list[str] = field(default_factory=list[str])
    at_end: bool = False
    """The place is the end of the file."""
    old_size: int = 0
    """Lines that it says it has."""
    new_size: int = 0

    @property
    def unfinished(self) -> bool:
        """Whether it has fewer lines than it says."""
        return len(self.old) < self.old_size or len(self.new) < self.new_size


@dataclass(slots=True)
class FilePatch:
    """What happens to one file."""

    kind: Literal["add", "update", "delete"]
    path: str
    move_to: str | None = None
    hunks: list[Hunk] = field(default_factory=list[Hunk])
    final_newline: bool | None = None
    """Whether the file ends with a line end afterwards; None leaves it as it is."""

    def content(self) -> str:
        """Of a file that is added."""
        lines = [line for hunk in self.hunks for line in hunk.new]
        end = "" if self.final_newline is False or not lines else "\n"
        return "\n".join(lines) + end


def parse(patch: str) -> list[FilePatch]:
    """Read a patch.

    Raises:
        PatchRefused: It is none.
    """
    lines = patch.replace("\r\n", "\n").split("\n")
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and lines[0].strip() == BEGIN:
        files = list(_parse_marked(lines))
    else:
        files = list(_parse_unified(lines))
    if not files:
        raise PatchRefused(
            f"it holds no file; begin it with {BEGIN!r} and end it with {END!r}, or give a unified "
            "diff"
        )
    return files


def _parse_marked(lines: Sequence[str]) -> Iterator[FilePatch]:
    current: FilePatch | None = None
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() == END:  # with a blank before it, it is a line of the file
            _check_nothing_follows(lines, number)
            break
        found = _FILE.fullmatch(line.rstrip())
        if found is not None:
            if current is not None:
                yield _checked(current)
            kind: Literal["add", "update", "delete"] = found[1].lower()  # pyright: ignore[reportAssignmentType]  # the pattern has these alone
            current = FilePatch(kind, found[2].strip())
        elif current is None:
            raise PatchRefused(
                f"line {number}: expected '*** Update File: PATH', not {line!r:.200}"
            )
        else:
            _take_marked(current, line, number)
    else:
        raise PatchRefused(f"it does not end with {END!r}")
    if current is not None:
        yield _checked(current)


def _check_nothing_follows(lines: Sequence[str], number: int) -> None:
    if number < len(lines):
        raise PatchRefused(
            f"line {number + 1}: nothing follows {END!r}; put all files into one patch"
        )


def _take_marked(file: FilePatch, line: str, number: int) -> None:
    if line.startswith(_MOVE) and file.kind == "update" and not file.hunks:
        file.move_to = line.removeprefix(_MOVE).strip()
    elif line.strip() == _END_OF_FILE and file.hunks:
        file.hunks[-1].at_end = True
    elif line.startswith("@@") and file.kind == "update":
        numbers = _RANGE.fullmatch(line)
        anchor = numbers[4] if numbers else line.removeprefix("@@").strip()
        file.hunks.append(
            Hunk(anchor=anchor.strip(), line=int(numbers[1]) - 1 if numbers else None)
        )
    elif file.kind == "add" and not line.startswith("+"):
        raise PatchRefused(f"line {number}: each line of a new file begins with '+'")
    elif file.kind == "delete":
        if line.strip():
            raise PatchRefused(f"line {number}: nothing follows '*** Delete File'")
    else:
        if not file.hunks:
            file.hunks.append(Hunk())
        _take(file.hunks[-1], line, number)


def _take(hunk: Hunk, line: str, number: int) -> None:
    sign, text = line[:1], line[1:]
    if sign and sign not in _SIGNS:  # an empty line of context has often lost its blank
        raise _not_of_a_hunk(line, number)
    if sign != "+":
        hunk.old.append(text)
    if sign != "-":
        hunk.new.append(text)


def _not_of_a_hunk(line: str, number: int) -> PatchRefused:
    return PatchRefused(
        f"line {number}: a line of a hunk begins with ' ', '-' or '+', not {line!r:.200}"
    )


def _parse_unified(lines: Sequence[str]) -> Iterator[FilePatch]:
    current: FilePatch | None = None
    hunk: Hunk | None = None
    skipped = ""
    for number, line in enumerate(lines, start=1):
        if line == _NO_NEWLINE and hunk is not None and current is not None:
            # Said of the old side alone: the new one ends with a line end.
            current.final_newline = lines[number - 2][:1] == "-"
        elif _begins_file(lines[number - 1 : number + 2], hunk):
            if current is not None:
                yield _checked(current)
            current, hunk, skipped = _unified_file(line, lines[number]), None, ""
        elif line.startswith("+++ ") and current is not None and not current.hunks:
            continue
        elif line.startswith("@@") and current is not None:
            hunk = _unified_hunk(line, number)
            current.hunks.append(hunk)
        elif line.startswith("diff --git "):
            _check_skipped(skipped)
            hunk, skipped = None, ""
        elif hunk is None:
            skipped = skipped or (line if line.startswith(_WITHOUT_HUNKS) else "")
        else:
            hunk = _take_unified(hunk, line, number)
    _check_skipped(skipped)
    if current is not None:
        yield _checked(current)


def _begins_file(lines: Sequence[str], hunk: Hunk | None) -> bool:
    if len(lines) < 2 or not lines[0].startswith("--- ") or not lines[1].startswith("+++ "):
        return False
    # In a hunk they may be lines that begin with '-- ' and '++ ', or the hunk was counted wrongly.
    return hunk is None or not hunk.unfinished or lines[-1].startswith("@@ -")


def _take_unified(hunk: Hunk, line: str, number: int) -> Hunk | None:
    """Take a line; None if the hunk has ended before it."""
    if line == _SIGNATURE and not hunk.unfinished:
        return None
    if line[:1] in _SIGNS if line else len(hunk.old) < hunk.old_size:
        _take(hunk, line, number)
    elif line and hunk.unfinished and not line.startswith(_OTHERS):
        raise _not_of_a_hunk(line, number)
    elif line:
        return None
    return hunk


def _unified_hunk(line: str, number: int) -> Hunk:
    found = _RANGE.match(line)
    if found is None:
        raise PatchRefused(
            f"line {number}: a hunk of a unified diff begins with '@@ -LINE,COUNT +LINE,COUNT @@', "
            f"not {line!r:.200}"
        )
    old_size, new_size = int(found[2] or 1), int(found[3] or 1)
    # An empty old side stands after its line, everything else at it.
    start = int(found[1]) - (1 if old_size else 0)
    return Hunk(line=max(0, start), old_size=old_size, new_size=new_size)


def _check_skipped(line: str) -> None:
    if line:
        raise PatchRefused(
            f"{line!r:.200} without hunks is not understood; use '*** Move to: PATH', "
            "'*** Add File: PATH' or '*** Delete File: PATH' between '*** Begin Patch' and "
            "'*** End Patch', or execute"
        )


def _unified_file(old: str, new: str) -> FilePatch:
    before, after = (_unified_path(line[4:]) for line in (old, new))
    if before is None and after is not None:
        return FilePatch("add", after)
    if before is not None and after is None:
        return FilePatch("delete", before)
    if before is None or after is None:
        raise PatchRefused("'--- /dev/null' and '+++ /dev/null' name no file")
    return FilePatch("update", before, move_to=None if before == after else after)


def _unified_path(text: str) -> str | None:
    path = text.partition("\t")[0].strip()
    if path == "/dev/null":
        return None
    return path[2:] if path.startswith(("a/", "b/")) else path


def _checked(file: FilePatch) -> FilePatch:
    if file.kind == "update" and not file.hunks and file.move_to is None:
        raise PatchRefused(f"{file.path!r}: there is nothing to change")
    return file


def patched(text: str, file: FilePatch, wanted: Callable[[], None] = lambda: None) -> str:
    """Apply the hunks of a file to its text, in order; line endings stay what they are.

    Args:
        text: Of the file.
        file: What happens to it.
        wanted: Asked before each hunk; it raises when nobody wants the result any more.

    Raises:
        PatchRefused: A hunk does not fit, or fits in several places.
    """
    lines = lines_of(text)
    bare = [line.removesuffix("\n").removesuffix("\r") for line in lines]
    ends = [line[len(body) :] for line, body in zip(lines, bare, strict=True)]
    usual = "\r\n" if ends and ends[0] == "\r\n" else "\n"
    final = ends[-1] != "" if ends else True
    out: list[str] = []
    at = 0
    places = Places(bare)
    for number, hunk in enumerate(file.hunks, start=1):
        wanted()
        where = f"hunk {number} of {len(file.hunks)}"
        start = _place(places, hunk, at, where)
        out += (
            body + (end or usual) for body, end in zip(bare[at:start], ends[at:start], strict=True)
        )
        out += _replacement(hunk, ends[start : start + len(hunk.old)], usual)
        at = start + len(hunk.old)
    out += (body + (end or usual) for body, end in zip(bare[at:], ends[at:], strict=True))
    if out and not (final if file.final_newline is None else file.final_newline):
        out[-1] = out[-1].removesuffix("\n").removesuffix("\r")
    return "".join(out)


def _replacement(hunk: Hunk, ends: Sequence[str], usual: str) -> Iterator[str]:
    # Lines of context keep their own line end; what is new takes that of the place.
    indexes: dict[str, list[int]] = {}
    for index, body in enumerate(hunk.old):
        indexes.setdefault(body, []).append(index)
    here = next((end for end in ends if end), usual)
    kept = 0
    for line in hunk.new:
        same = indexes.get(line, ())
        place = bisect_left(same, kept)
        if place == len(same):
            yield line + here
        else:
            yield line + (ends[same[place]] or usual)
            kept = same[place] + 1


class Places:
    """Where lines occur in a text, in time that hardly depends on what they are."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self._text = "\n".join(("", *lines, ""))
        self._begins = list(accumulate((len(line) + 1 for line in lines), initial=0))
        self._backwards: str | None = None

    def at(self, wanted: Sequence[str], line: int) -> bool:
        """Whether they begin at this line."""
        if not 0 <= line <= len(self.lines) - len(wanted):
            return False
        return self._text.startswith(_block(wanted), self._begins[line])

    def after(self, wanted: Sequence[str], first: int, most: int) -> list[int]:
        """The lines from `first` on where they begin, at most so many."""
        block, found = _block(wanted), list[int]()
        at = self._text.find(block, self._begins[first])
        while at >= 0 and len(found) < most:
            found.append(bisect_left(self._begins, at))
            at = self._text.find(block, at + 1)
        return found

    def before(self, wanted: Sequence[str], first: int, line: int) -> int | None:
        """The last line before `line`, and not before `first`, where they begin."""
        # From behind, because finding is quick forwards alone.
        if self._backwards is None:
            self._backwards = self._text[::-1]
        block = _block(wanted)
        last = self._begins[min(line, len(self.lines))] - 1 + len(block)
        at = self._backwards.find(block[::-1], max(0, len(self._text) - last))
        begin = len(self._text) - at - len(block)
        return (
            bisect_left(self._begins, begin) if at >= 0 and begin >= self._begins[first] else None
        )

    def closest(self, wanted: Sequence[str], first: int, line: int) -> int | None:
        """Where they begin closest to a line, and not before `first`."""
        line = max(first, min(line, len(self.lines)))
        if self.at(wanted, line):
            return line
        found = [*self.after(wanted, line, 1)]
        if (before := self.before(wanted, first, line)) is not None:
            found.append(before)
        return min(found, key=lambda start: (abs(start - line), start), default=None)


def _block(lines: Sequence[str]) -> str:
    return "\n".join(("", *lines, ""))


def _place(places: Places, hunk: Hunk, at: int, where: str) -> int:
    lines = places.lines
    first = at if not hunk.anchor else _below(lines, hunk.anchor, at, where)
    size = len(hunk.old)
    if not size:
        if hunk.line is not None:
            return min(max(hunk.line, first), len(lines))
        return first if hunk.anchor and not hunk.at_end else len(lines)
    found: list[int]
    if hunk.at_end:
        end = len(lines) - size
        found = [end] if end >= first and places.at(hunk.old, end) else []
    elif hunk.line is not None:
        closest = places.closest(hunk.old, first, hunk.line)
        found = [] if closest is None else [closest]
    else:
        found = places.after(hunk.old, first, 1 if hunk.anchor else COUNTED_MAX + 1)
    if not found:
        below = f" below line {first}" if first else ""
        hint = nearest("\n".join(lines[first:]), "\n".join(hunk.old))
        raise PatchRefused(f"{where}: its lines were not found{below}; {_moved(hint, first)}")
    if len(found) > 1:
        times = f"more than {COUNTED_MAX}" if len(found) > COUNTED_MAX else str(len(found))
        shown = ", ".join(str(start + 1) for start in found[:5])
        raise PatchRefused(
            f"{where}: its lines were found {times} times, at line {shown}; add lines around "
            "them, or a line above them after '@@ '"
        )
    return found[0]


def _moved(hint: str, first: int) -> str:
    return re.sub(r"\bline (\d+)", lambda found: f"line {int(found[1]) + first}", hint, count=1)


def _below(lines: Sequence[str], anchor: str, at: int, where: str) -> int:
    for index in range(at, len(lines)):
        if lines[index].strip() == anchor:
            return index + 1
    raise PatchRefused(
        f"{where}: no line {clip_line(anchor, 200)!r} was found below line {at}; give the whole "
        "line after '@@ '"
    )
