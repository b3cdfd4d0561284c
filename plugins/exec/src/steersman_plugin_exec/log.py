"""All output of a process, in a file of the workspace that tools can read and search."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

FOLDER: Final = ".steersman"
LOG_MAX: Final = 64 << 20

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class OutputLog:
    """The beginning of an output, up to `cap` bytes.

    Commands own the workspace and may do anything to the file and its folder; each is opened
    without following a link, and what is read is the file that was made here or nothing.

    Attributes:
        path: Relative to the workspace.
        size: Bytes in it.
        whole: False once something could not be kept: too much, or the disk refused.
    """

    def __init__(self, workspace: Path, name: str, cap: int = LOG_MAX) -> None:
        self.path = f"{FOLDER}/{name}.log"
        self.size = 0
        self.whole = True
        self._workspace = workspace
        self._name = f"{name}.log"
        self._cap = cap
        self._descriptor = -1
        self._inode: tuple[int, int] | None = None

    @property
    def exists(self) -> bool:
        """Whether the file was made."""
        return self._inode is not None

    def begin(self) -> None:
        """Make the file. Without one nothing is kept, and `whole` says so."""
        try:
            folder = self._folder(create=True)
        except OSError:
            self.whole = False
            return
        try:
            self._descriptor = os.open(self._name, _NEW, 0o644, dir_fd=folder)
            status = os.fstat(self._descriptor)
            self._inode = (status.st_dev, status.st_ino)
            _hand_over(self._descriptor, os.stat(self._workspace))  # noqa: PTH116  # a path of ours
        except OSError:
            self.whole = False
        finally:
            os.close(folder)

    def add(self, data: bytes) -> None:
        """Keep more output, as far as there is room."""
        kept = data[: self._cap - self.size]
        if self._descriptor < 0 or len(kept) < len(data):
            self.whole = False
        if self._descriptor < 0 or not kept:
            return
        try:
            self.size += os.write(self._descriptor, kept)
        except OSError:
            self.whole = False
            self.close()

    def close(self) -> None:
        """Keep no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, offset: int, size: int) -> bytes | None:
        """Read from it; None if it is not there any more."""
        try:
            folder = self._folder(create=False)
        except OSError:
            return None
        try:
            opened = os.open(self._name, _READ, dir_fd=folder)
        except OSError:
            return None
        finally:
            os.close(folder)
        try:
            status = os.fstat(opened)
            if (status.st_dev, status.st_ino) != self._inode or not stat.S_ISREG(status.st_mode):
                return None
            return os.pread(opened, size, offset)
        except OSError:
            return None
        finally:
            os.close(opened)

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        if not self.exists:
            return
        try:
            folder = self._folder(create=False)
        except OSError:
            return
        try:
            os.unlink(self._name, dir_fd=folder)
        except OSError:
            return
        finally:
            os.close(folder)

    def _folder(self, *, create: bool) -> int:
        above = os.open(self._workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            made = create and _made(above)
            folder = os.open(FOLDER, _FOLDER, dir_fd=above)
            if made:
                owner = os.fstat(above)
                _hand_over(folder, owner)
                _ignore(folder, owner)
        finally:
            os.close(above)
        return folder


def _made(above: int) -> bool:
    try:
        os.mkdir(FOLDER, 0o755, dir_fd=above)
    except FileExistsError:
        return False
    return True


def _ignore(folder: int, owner: os.stat_result) -> None:
    # Logs do not belong into a commit of the workspace's repository.
    try:
        opened = os.open(".gitignore", _NEW, 0o644, dir_fd=folder)
    except OSError:
        return
    with os.fdopen(opened, "w") as file:
        _hand_over(opened, owner)
        file.write("*\n")


def _hand_over(opened: int, owner: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(opened, owner.st_uid, owner.st_gid)
