"""The directory in which a command starts, opened so that it cannot be outside the workspace."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Refused(Exception):
    """The command is not started. The message is for the model: what is wrong, and what to do."""


class Workdir:
    """An open directory of a workspace.

    It closes itself, because a call that is cancelled never sees what its thread has opened.

    Attributes:
        workspace: The workspace, without links in its path.
        path: The directory below it. What lies there may have changed since it was opened.

    Args:
        workspace: The workspace.
        path: Relative to it, or absolute and below it.

    Raises:
        Refused: It is outside, missing, a link, no directory, or forbidden.
    """

    def __init__(self, workspace: Path, path: str) -> None:
        self.descriptor = -1
        self.workspace = workspace.resolve()
        names = self._names(workspace, path)
        self.path = self.workspace.joinpath(*names)
        self._enter(str(workspace), "the workspace", os.O_CLOEXEC)
        self.owner = os.fstat(self.descriptor)
        for index, name in enumerate(names):
            self._enter(name, repr("/".join(names[: index + 1])), os.O_NOFOLLOW)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def _names(self, workspace: Path, path: str) -> tuple[str, ...]:
        pure = PurePosixPath(path)
        if "\0" in path or not path.isprintable():
            raise Refused(f"workdir {path!r} contains control characters; remove them")
        for root in (workspace.absolute(), self.workspace):
            if pure.is_relative_to(root):
                pure = pure.relative_to(root)
        if pure.is_absolute() or ".." in pure.parts:
            raise Refused(
                f"workdir {path!r} is outside the workspace; give a directory below it, such as "
                "'src', without '..'"
            )
        return pure.parts

    def _enter(self, name: str, shown: str, flags: int) -> None:
        above = self.descriptor
        try:
            below = os.open(name, _FOLDER | flags, dir_fd=above if above >= 0 else None)
        except OSError as error:
            raise Refused(
                f"workdir cannot be used: {shown} is missing, a symbolic link or no directory, or "
                f"it is forbidden ({os.strerror(error.errno or 0)})"
            ) from error
        self.descriptor = below
        if above >= 0:
            os.close(above)
