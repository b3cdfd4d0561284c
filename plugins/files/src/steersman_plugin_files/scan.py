"""Walk a directory, and tell which paths a glob means."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

FOLDER_MAX: Final = 100_000
DEPTH_MAX: Final = 64
UNSEEN: Final = (".git",)

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

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
