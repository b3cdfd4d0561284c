"""Places for desktops on this host: each has a number, a folder and, as root, a user of its own.

A place is held by a lock that dies with the process. Whoever takes a place ends what its last
owner left behind, so that nothing outlives a service that was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steersman_contracts.errors import TooManyRequests

MARK: Final = "STEERSMAN_DESKTOP_PLACE"
"""In the environment of every process of a desktop: the folder of its place."""
_MAX_PATH: Final = 60
"""Bytes of the folder's name; the name of a socket in it must stay below 108."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place that is ours until it is left."""

    number: int
    folder: Path
    uid: int | None
    """None: the user of this process."""
    lock: int
    """The descriptor that holds it."""

    def leave(self) -> None:
        """Remove everything, and let others have it."""
        end_processes(self)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


class Places:
    """The places of this host, shared with every other desktop service on it."""

    def __init__(self, folder: str, count: int, uid_base: int) -> None:
        root = os.geteuid() == 0
        default = Path(tempfile.gettempdir()) / f"steersman-desktops-{os.geteuid()}"
        self._folder = Path(folder) if folder else default
        if len(os.fsencode(self._folder)) > _MAX_PATH:
            raise ValueError(f"the folder {str(self._folder)!r} is longer than {_MAX_PATH} bytes")
        self._count = count
        self._uid_base = uid_base if root else None

    def sweep(self) -> int:
        """End what services that were killed have left; say how many processes that were."""
        ended = 0
        for number in range(self._count):
            place, found = self._try(number)
            ended += found
            if place is not None:
                place.leave()
        return ended

    def take(self) -> Place:
        """Take a free place, with an empty folder.

        Raises:
            TooManyRequests: There is none.
        """
        for number in range(self._count):
            place, _ = self._try(number)
            if place is not None:
                return place
        raise TooManyRequests(
            f"this host has its {self._count} desktops; stop one first", limit=self._count
        )

    def _try(self, number: int) -> tuple[Place | None, int]:
        _private_folder(self._folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self._folder / f"{number}.lock", flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None, 0
        uid = None if self._uid_base is None else self._uid_base + number
        place = Place(number, self._folder / str(number), uid, lock)
        ended = end_processes(place)
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir(mode=0o700)
        if uid is not None:
            os.chown(place.folder, uid, uid)
        return place, ended


def _private_folder(folder: Path) -> None:
    """Make the folder, which others may pass through and not list; refuse one that is not ours."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.geteuid() or not folder.is_dir() or folder.is_symlink():
        raise PermissionError(f"{str(folder)!r} belongs to somebody else")
    folder.chmod(0o711)


def end_processes(place: Place) -> int:
    """Kill every process of a place, and those that they start meanwhile; say how many."""
    ended = 0
    for _ in range(100):  # each round ends what the one before had just forked
        found = [pid for pid in _pids() if _belongs(pid, place)]
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended += len(found)
        if not found:
            break
    return ended


def _belongs(pid: int, place: Place) -> bool:
    folder = Path("/proc") / str(pid)
    try:
        if place.uid is not None:
            # The owner first: of all processes of a host it is cheap to ask.
            return folder.stat().st_uid == place.uid and not _is_zombie(folder)
        mark = f"{MARK}={place.folder}".encode()
        return mark in (folder / "environ").read_bytes().split(b"\0") and not _is_zombie(folder)
    except OSError:
        return False


def _is_zombie(folder: Path) -> bool:
    # The name in parentheses may hold anything.
    return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"


def _pids(listed: Callable[[str], list[str]] = os.listdir) -> list[int]:
    return [int(name) for name in listed("/proc") if name.isdigit()]
