"""Ways into a workspace that cannot lead out of it.

Every path is walked one component at a time, each opened relative to the directory before it and
never through a symbolic link. Whatever a command changes meanwhile, the walk ends inside the
workspace or is refused; there is no moment between a check and a use.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

MAX_NAME: Final = 255
MAX_PATH: Final = 4096
MAX_DEPTH: Final = 128

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO that nobody writes to would never return.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_LOCKS: Final = tuple(threading.Lock() for _ in range(64))

_REASONS: Final = {
    errno.ENOENT: "does not exist; list_files shows what is there",
    errno.EACCES: "may not be accessed: permission denied; execute `ls -ld` on it",
    errno.EPERM: "may not be changed: operation not permitted",
    errno.ENAMETOOLONG: f"has a name that is too long; use at most {MAX_NAME} bytes for each name",
    errno.ENOSPC: "cannot be written: the disk is full; delete what is not needed",
    errno.EDQUOT: "cannot be written: the disk quota is used up; delete what is not needed",
    errno.EROFS: "cannot be written: the file system is read-only",
}


class Refused(Exception):
    """The call cannot be done. The message is for the model: what is wrong, and what to do."""


class BadPath(Refused):
    """It is no path below the workspace, whatever the file system holds."""


class Missing(Refused):
    """There is nothing of that name."""


def refusal(error: OSError, shown: str) -> Refused:
    """Say in words what the operating system said about the path `shown`."""
    code = error.errno or 0
    kind = Missing if code == errno.ENOENT else Refused
    return kind(f"{shown!r} {_REASONS.get(code, f'cannot be used: {os.strerror(code)}')}")


def split_path(path: str, roots: Sequence[str]) -> tuple[str, ...]:
    """Split a path of a model into names below the workspace; none is the workspace itself.

    Args:
        path: Relative to the workspace, or absolute and below one of `roots`.
        roots: The workspace's own absolute path, in each spelling that a command may have printed.

    Raises:
        BadPath: The path is no path, or leads elsewhere whatever the file system holds.
    """
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        raise BadPath(f"{path!r} is not valid Unicode; write the path in UTF-8") from error
    if not path:
        raise BadPath("the path is empty; use '.' for the workspace itself")
    if "\0" in path:
        raise BadPath(f"{path!r} contains a NUL character; remove it")
    if size > MAX_PATH:
        raise BadPath(
            f"the path that begins {path[:80]!r} is too long: {size} bytes; use at most {MAX_PATH}"
        )
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise BadPath(f"{path!r} contains '..'; write the path from the workspace down, without it")
    if path.startswith("/"):
        names = _below(names, path, roots)
    if len(names) > MAX_DEPTH:
        raise BadPath(f"{path[:80]!r}… has {len(names)} levels; use at most {MAX_DEPTH}")
    for name in names:
        if len(name.encode()) > MAX_NAME:
            raise BadPath(
                f"the name {name[:80]!r}… is too long: {len(name.encode())} bytes; "
                f"use at most {MAX_NAME}"
            )
    return tuple(names)


def _below(names: list[str], path: str, roots: Sequence[str]) -> list[str]:
    for root in roots:
        top = [name for name in root.split("/") if name]
        if names[: len(top)] == top:
            return names[len(top) :]
    raise BadPath(f"{path!r} is outside the workspace; use a path relative to the workspace")


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open directory."""

    directory: int
    name: str
    shown: str
    """The path as it is told to the model."""

    def status(self) -> os.stat_result | None:
        """What lies there now, not following a link; None if nothing does."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refusal(error, self.shown) from error


@dataclass(frozen=True, slots=True)
class Workspace:
    """An open workspace."""

    directory: int
    status: os.stat_result
    roots: tuple[str, ...]

    def split(self, path: str) -> tuple[str, ...]:
        """Split a path of a model; see `split_path`."""
        return split_path(path, self.roots)

    @contextmanager
    def folder(self, names: Sequence[str], *, create: bool = False) -> Generator[int]:
        """Open the directory `names` below the workspace.

        Raises:
            Refused: It is missing (and not to be made), a link, no directory, or forbidden.
        """
        current = os.dup(self.directory)
        try:
            for index, name in enumerate(names):
                place = Place(current, name, "/".join(names[: index + 1]))
                below = self._enter(place, create=create)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _enter(self, place: Place, *, create: bool) -> int:
        if create:
            try:
                os.mkdir(place.name, dir_fd=place.directory)
            except FileExistsError:
                create = False
            except OSError as error:
                raise refusal(error, place.shown) from error
        try:
            opened = os.open(place.name, _DIRECTORY, dir_fd=place.directory)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise self._not_a_folder(place) from error
            raise refusal(error, place.shown) from error
        if create:
            self.hand_over(opened)
        return opened

    def _not_a_folder(self, place: Place) -> Refused:
        status = place.status()
        if status is not None and stat.S_ISLNK(status.st_mode):
            return self.link(place)
        return Refused(f"{place.shown!r} is not a directory; list_files shows what is there")

    @staticmethod
    def link(place: Place) -> Refused:
        """The refusal of a symbolic link, with where it points: often that is the way to go."""
        try:
            target = os.readlink(place.name, dir_fd=place.directory)
        except OSError:
            target = "?"
        return Refused(
            f"{place.shown!r} is a symbolic link (to {target!r}), and links are not followed; "
            "use the path of what it points to, inside the workspace"
        )

    @contextmanager
    def place(self, path: str, *, create_parents: bool = False) -> Generator[Place]:
        """Open the directory that holds `path`, which need not exist itself."""
        names = self.split(path)
        if not names:
            raise BadPath(f"{path!r} is the workspace itself; name a file in it")
        with self.folder(names[:-1], create=create_parents) as directory:
            yield Place(directory, names[-1], "/".join(names))

    def existing(self, place: Place) -> os.stat_result | None:
        """Look at the regular file at `place`; None if there is nothing.

        Raises:
            Refused: It is something else.
        """
        status = place.status()
        if status is not None:
            self._regular(place, status)
        return status

    def _regular(self, place: Place, status: os.stat_result) -> None:
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            raise self.link(place)
        if stat.S_ISDIR(mode):
            raise Refused(f"{place.shown!r} is a directory; use list_files, or name a file in it")
        if not stat.S_ISREG(mode):
            raise Refused(
                f"{place.shown!r} is a {kind(mode)}; only regular files can be read and written"
            )
        # A hard link may be another name of a file outside, which only root could read here.
        if status.st_nlink > 1 and status.st_uid != self.status.st_uid:
            raise Refused(
                f"{place.shown!r} is a hard link to a file of another owner; copy it with execute"
            )

    @contextmanager
    def reading(self, place: Place) -> Generator[tuple[BinaryIO, os.stat_result]]:
        """Open a regular file, and nothing else, for reading."""
        if self.existing(place) is None:
            raise refusal(FileNotFoundError(errno.ENOENT, ""), place.shown)
        try:
            opened = os.open(place.name, _READ, dir_fd=place.directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self.link(place) from error
            raise refusal(error, place.shown) from error
        with os.fdopen(opened, "rb") as file:
            status = os.fstat(opened)
            self._regular(place, status)  # once more: it may have been replaced since
            yield file, status

    def hand_over(self, opened: int) -> None:
        """Give what was just made to the workspace's owner, so that commands can change it."""
        if os.geteuid() == 0 and os.fstat(opened).st_uid == 0:
            os.fchown(opened, self.status.st_uid, self.status.st_gid)

    @contextmanager
    def changing(self) -> Generator[None]:
        """Keep the other calls of this process from changing the same workspace meanwhile.

        The calls of one step run at the same time, and two edits of one file must both count.
        """
        with _LOCKS[hash((self.status.st_dev, self.status.st_ino)) % len(_LOCKS)]:
            yield


@contextmanager
def open_workspace(root: Path) -> Generator[Workspace]:
    """Open the directory that a call may use. How `root` itself is reached is not confined."""
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"the workspace cannot be opened: {os.strerror(error.errno or 0)}") from error
    try:
        spellings = dict.fromkeys((str(root.absolute()), str(root.resolve())))
        yield Workspace(directory, os.fstat(directory), tuple(spellings))
    finally:
        os.close(directory)


def kind(mode: int) -> str:
    """The word for what `mode` says a file is."""
    words = {
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFLNK: "symbolic link",
        stat.S_IFDIR: "directory",
    }
    return words.get(stat.S_IFMT(mode), "file")
