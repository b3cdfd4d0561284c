"""Reads what a workspace says to models: instruction files and skills.

Whoever can write to a workspace may change anything in it at any moment. So every path is walked
from an open directory, one name at a time and never through a symbolic link, and what is read is
what was opened: nothing is looked at first and used later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from steersman_contracts.rpc.context import (
    INSTRUCTION_FILE,
    MAX_FILE_BYTES,
    InstructionFile,
    SkillText,
    WorkspaceContext,
)
from steersman_contracts.skills import skill_summary
from steersman_contracts.terms import MAX_SKILL_BYTES, MAX_SKILLS, SkillSummary

SKILLS: Final = (".agents", "skills")
SKILL_FILE: Final = "SKILL.md"
_LISTED_FILES: Final = 100
_LOOKED_AT: Final = 1000
"""Names in a directory of skills that are looked at."""
_MAX_DEPTH: Final = 16

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO that nobody writes to would never return.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _Read(NamedTuple):
    text: str
    size: int
    truncated: bool
    identity: tuple[int, int]


def read_context(root: Path, workdir: Sequence[str] = ()) -> WorkspaceContext:
    """Read the instruction files and the names of the skills of a workspace.

    Args:
        root: The home of the workspace.
        workdir: The names of the directories that lead from there to the working directory.
    """
    places = [(), tuple(workdir)] if workdir else [()]
    files: list[InstructionFile] = []
    skills: dict[str, SkillSummary] = {}
    seen: set[tuple[int, int]] = set()
    for names in places:
        path = "/".join((*names, INSTRUCTION_FILE))
        found = _read(root, (*names, INSTRUCTION_FILE), MAX_FILE_BYTES)
        if found is not None and found.identity not in seen:
            seen.add(found.identity)
            files.append(InstructionFile(path, found.text, found.size, found.truncated))
        for summary in _skills(root, (*names, *SKILLS)):
            skills.setdefault(summary.name, summary)
    listed = tuple(skills[name] for name in sorted(skills))[:MAX_SKILLS]
    return WorkspaceContext(attached=True, files=tuple(files), skills=listed)


def read_skill(root: Path, name: str, path: str, workdir: Sequence[str] = ()) -> SkillText:
    """Read a file of a skill.

    Args:
        root: The home of the workspace.
        name: The skill: the name of its directory.
        path: Of the file, below that directory.
        workdir: As for `read_context`.
    """
    below = [part for part in path.split("/") if part not in ("", ".")]
    if "\0" in path or ".." in below or path.startswith("/") or not below:
        return SkillText(problem=f"{path!r} is not a path below the skill; leave out '..' and '/'")
    if len(below) > _MAX_DEPTH:
        return SkillText(problem=f"{path!r:.200} has more than {_MAX_DEPTH} levels")
    for names in [(), tuple(workdir)] if workdir else [()]:
        skill = (*names, *SKILLS, name)
        if _summary(root, skill) is None:
            continue
        found = _read(root, (*skill, *below), MAX_SKILL_BYTES)
        if found is None:
            return SkillText(
                problem=f"the skill {name!r} has no file {path!r} that can be read; "
                "links are not followed"
            )
        whole = below == [SKILL_FILE]
        return SkillText(found.text, found.truncated, _files(root, skill) if whole else ())
    return SkillText(problem=f"there is no skill {name!r} in the workspace")


def _skills(root: Path, folder: Sequence[str]) -> Generator[SkillSummary]:
    for name in _names(root, folder)[:_LOOKED_AT]:
        summary = _summary(root, (*folder, name))
        if summary is not None:
            yield summary


def _summary(root: Path, skill: Sequence[str]) -> SkillSummary | None:
    found = _read(root, (*skill, SKILL_FILE), MAX_SKILL_BYTES)
    return None if found is None else skill_summary(found.text, skill[-1])


def _names(root: Path, folder: Sequence[str]) -> list[str]:
    with suppress(OSError), _opened(root, folder) as directory:
        return sorted(os.listdir(directory))  # noqa: PTH208  # of an open directory
    return []


def _files(root: Path, skill: Sequence[str]) -> tuple[str, ...]:
    """The files of a skill, but its `SKILL.md`; links are not followed and not shown."""
    found: list[str] = []
    waiting: list[tuple[str, ...]] = [()]
    while waiting and len(found) < _LISTED_FILES:
        below = waiting.pop()
        for name in _names(root, (*skill, *below))[:_LOOKED_AT]:
            path = (*below, name)
            kind = _kind(root, (*skill, *path))
            if kind == stat.S_IFDIR and len(path) < _MAX_DEPTH:
                waiting.append(path)
            elif kind == stat.S_IFREG and path != (SKILL_FILE,):
                found.append("/".join(path).encode(errors="replace").decode())
    return tuple(sorted(found[:_LISTED_FILES]))


def _kind(root: Path, path: Sequence[str]) -> int:
    with suppress(OSError), _opened(root, path[:-1]) as directory:
        status = os.stat(path[-1], dir_fd=directory, follow_symlinks=False)
        return stat.S_IFMT(status.st_mode)
    return 0


def _read(root: Path, path: Sequence[str], limit: int) -> _Read | None:
    """The beginning of a regular file; None for whatever is none."""
    with suppress(OSError), _opened(root, path[:-1]) as directory:
        opened = os.open(path[-1], _FILE, dir_fd=directory)
        with os.fdopen(opened, "rb") as file:
            status = os.fstat(opened)
            owner = root.stat().st_uid
            if not stat.S_ISREG(status.st_mode):
                return None
            # A hard link may be another name of a file outside, which only root could read here.
            if status.st_nlink > 1 and status.st_uid != owner:
                return None
            content = file.read(limit + 1)
        size = max(status.st_size, len(content))
        # A character that the limit has cut through is left out, not shown as a broken one.
        text = content[:limit].decode(errors="ignore" if len(content) > limit else "replace")
        return _Read(text, size, len(content) > limit, (status.st_dev, status.st_ino))
    return None


@contextmanager
def _opened(root: Path, names: Sequence[str]) -> Generator[int]:
    """Open a directory below the workspace.

    Raises:
        OSError: It is missing, a link, no directory, or forbidden.
    """
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            below = os.open(name, _FOLDER, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)
