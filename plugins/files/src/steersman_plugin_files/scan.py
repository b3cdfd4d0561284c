"""Walk a directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

FOLDER_MAX: Final = 100_000
DEPTH_MAX: Final = 64
UNSEEN: Final = (".git",)

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
