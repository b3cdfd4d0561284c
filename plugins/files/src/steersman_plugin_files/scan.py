"""Walk a directory, and search its files for a pattern.

`search_files` runs this module as a script in a process of its own: a regular expression can take
years on one line, it holds the interpreter's lock while it does, and nothing but the end of the
process stops it. Hence it needs the standard library alone, and little of that: it starts faster.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

FILE_MAX: Final = 10 * 1024 * 1024
FOLDER_MAX: Final = 100_000
DEPTH_MAX: Final = 64
LINE_MAX: Final = 400
UNSEEN: Final = (".git",)

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_GLOB_TOKEN: Final = re.compile(
    r"\*\*/|\*\*|\[(?P<negated>[!^]?)(?P<members>\]?[^]]*)\]|.", re.DOTALL
)
_GLOB: Final = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:"}
_GLOB_IN_BRACES: Final = {",": "|", "}": ")"}


class Entry(NamedTuple):
    """Something in a directory."""

    path: str
    """Relative to where the walk began."""
    name: str
    folder: int
    """The open directory that holds it, until the walk goes on."""
    status: os.stat_result


def walk(folder: int, *, recursive: bool, prefix: str = "", depth: int = 0) -> Iterator[Entry]:
    """Yield what is in an open directory, by name, each directory before what is in it.

    Links are told and not followed. Not looked into: `.git`, what may not be read, more than
    `DEPTH_MAX` levels, and entries of one directory after `FOLDER_MAX`.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in islice(entries, FOLDER_MAX))
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:  # it has gone meanwhile
            continue
        yield Entry(prefix + name, name, folder, status)
        inside = recursive and stat.S_ISDIR(status.st_mode) and name not in UNSEEN
        if not inside or depth >= DEPTH_MAX:
            continue
        try:
            below = os.open(name, _FOLDER, dir_fd=folder)
        except OSError:
            continue
        try:
            yield from walk(below, recursive=True, prefix=f"{prefix}{name}/", depth=depth + 1)
        finally:
            os.close(below)


def glob_regex(glob: str) -> str:
    """Translate a glob into a regular expression for whole paths.

    Without a slash it is about the name, at any depth. `*` and `?` stay within a name, `**/` is
    any number of directories, `{a,b}` is either, `[…]` is a set of characters.

    Raises:
        ValueError: A brace is not closed.
    """
    out: list[str] = [] if "/" in glob else ["(?:.*/)?"]
    braces = 0
    for token in _GLOB_TOKEN.finditer(glob.removeprefix("./").removeprefix("/")):
        text, members = token[0], token["members"]
        if members is not None:
            escaped = members.replace("\\", r"\\").replace("[", r"\[")
            out.append(f"[^/{escaped}]" if token["negated"] else f"(?!/)[{escaped}]")
        elif braces and text in _GLOB_IN_BRACES:
            out.append(_GLOB_IN_BRACES[text])
        else:
            out.append(_GLOB.get(text, re.escape(text)))
        braces += (text == "{") - (text == "}" and braces > 0)
    if braces:
        raise ValueError(f"glob {glob!r} has a '{{' without '}}'")
    return f"(?s:{''.join(out)})\\Z"


def read_text(entry: Entry, owner: int) -> str | None:
    """The text of a regular file, the first `FILE_MAX` bytes of it; None if it is no text.

    A hard link to a file of somebody else than `owner` may be a file outside: None as well.
    """
    try:
        opened = os.open(entry.name, _FILE, dir_fd=entry.folder)
    except OSError:
        return None
    with os.fdopen(opened, "rb") as file:
        status = os.fstat(opened)
        foreign = status.st_nlink > 1 and status.st_uid != owner
        if foreign or not stat.S_ISREG(status.st_mode):
            return None
        data = file.read(FILE_MAX)
    return None if b"\0" in data else data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")


def matches(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that matches; a long line is cut around the match."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()  # a line ends with a newline; after the last there is none
    for number, line in enumerate(lines, start=1):
        bare = line.removesuffix("\r")
        found = pattern.search(bare)
        if found is None:
            continue
        start = max(0, min(found.start() - LINE_MAX // 4, len(bare) - LINE_MAX))
        shown = bare[start : start + LINE_MAX]
        before = f"[{start} characters] …" if start else ""
        rest = len(bare) - start - len(shown)
        yield number, before + shown + (f"… [{rest} characters]" if rest else "")


def _entries(request: dict[str, Any]) -> Iterator[Entry]:
    folder, name = request["folder"], request["name"]
    if name is None:
        yield from walk(folder, recursive=True)
        return
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    yield Entry(name, name, folder, status)


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def _search(request: dict[str, Any]) -> None:
    flags = re.IGNORECASE if request["ignore_case"] else 0
    try:
        pattern = re.compile(request["pattern"], flags)
        glob = None if request["glob"] is None else re.compile(glob_regex(request["glob"]))
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        _tell({"refused": str(error)})
        return
    left, files = request["limit"], 0
    told = time.monotonic()
    for entry in _entries(request):
        if not stat.S_ISREG(entry.status.st_mode) or (glob and not glob.match(entry.path)):
            continue
        text = read_text(entry, request["owner"])
        files += text is not None
        for number, line in matches(text or "", pattern):
            if not left:
                _tell({"files": files, "more": True})
                return
            left -= 1
            shown = os.fsencode(entry.path).decode(errors="replace")
            _tell({"path": shown, "line": number, "text": line})
        if time.monotonic() - told > 0.1:
            _tell({"files": files})  # what counts if the next file takes for ever
            sys.stdout.flush()
            told = time.monotonic()
    _tell({"files": files, "more": False})


if __name__ == "__main__":
    order = json.load(sys.stdin)
    signal.alarm(order["seconds"])  # the caller ends this process; if the caller dies, this does
    _search(order)
