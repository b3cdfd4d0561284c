"""Recordings on disk: a folder each, with its pictures, its marks one a line, and what it is.

Instances may share the folder. Only the one that records writes; a recording whose recorder has
died is found out by its lock. Blocking: call it in a thread.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import ChatId, is_chat_id
from steersman_contracts.rpc.desktop_recordings import FrameMark, Mark, Recording

PAGE: Final = 1_000
"""Marks in one answer."""
_ABOUT: Final = "recording.json"
_MARKS: Final = "timeline.jsonl"
_LOCK: Final = "lock"
_MARK: Final = msgspec.json.Decoder(Mark)


class Writing:
    """A recording that is being made. Its lock ends with the process."""

    def __init__(self, folder: Path, recording: Recording, lock: int) -> None:
        self.folder = folder
        self.recording = recording
        self._lock = lock
        self._marks = (folder / _MARKS).open("ab")
        self._one = threading.RLock()
        """A thread that writes a picture may outlive who waited for it."""

    def mark(self, mark: Mark) -> None:
        """Write a mark down; nothing once it has ended."""
        with self._one:
            if not self._marks.closed:
                self._marks.write(msgspec.json.encode(mark) + b"\n")
                self._marks.flush()

    def frame(self, data: bytes, at_s: float) -> None:
        """Write a picture down, and that the screen looked so from then on."""
        with self._one:
            if self._marks.closed:
                return
            number = self.recording.frames + 1
            _write(self.folder / _frame(number), data)
            self.mark(FrameMark(at_s, number))
            size = self.recording.size + len(data)
            self.recording = msgspec.structs.replace(
                self.recording, frames=number, size=size, duration_s=at_s
            )

    def end(self, at_s: float, reason: str) -> Recording:
        """Nothing more is written."""
        with self._one:
            self.recording = msgspec.structs.replace(
                self.recording, state="ended", duration_s=at_s, reason=reason
            )
            self._marks.close()
            if self.folder.exists():  # it may have been deleted meanwhile
                _write(self.folder / _ABOUT, msgspec.json.encode(self.recording))
            os.close(self._lock)
            return self.recording


class Archive:
    """All recordings of a folder."""

    def __init__(self, folder: str) -> None:
        default = Path(tempfile.gettempdir()) / f"steersman-recordings-{os.geteuid()}"
        self._folder = Path(folder) if folder else default

    def begin(self, chat_id: ChatId, size: tuple[int, int], now: datetime) -> Writing:
        """A new recording."""
        name = f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        recording = Recording(name, chat_id, "recording", now, *size)
        folder = self._folder / chat_id / name
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(folder / _ABOUT, msgspec.json.encode(recording))
        return Writing(folder, recording, lock)

    def folder_of(self, chat_id: ChatId, recording_id: str) -> Path:
        """Where a recording lies.

        Raises:
            NotFound: There is none.
        """
        folder = self._folder / chat_id / recording_id
        if not (folder / _ABOUT).is_file():
            raise NotFound("the chat has no such recording")
        return folder

    def read(self, chat_id: ChatId, recording_id: str) -> Recording:
        """What a recording is; one whose recorder has died has ended with its last mark.

        Raises:
            NotFound: There is none.
        """
        folder = self.folder_of(chat_id, recording_id)
        recording = msgspec.json.decode((folder / _ABOUT).read_bytes(), type=Recording)
        if recording.state == "ended":
            return recording
        marks = sorted(self._marks(folder), key=lambda mark: mark.at_s)
        frames = [mark for mark in marks if isinstance(mark, FrameMark)]
        runs = _is_locked(folder / _LOCK)
        return msgspec.structs.replace(
            recording,
            state="recording" if runs else "ended",
            reason="" if runs else "interrupted",
            duration_s=marks[-1].at_s if marks else 0.0,
            frames=len(frames),
            size=sum((folder / _frame(mark.number)).stat().st_size for mark in frames),
        )

    def list(self, chat_id: ChatId) -> tuple[Recording, ...]:
        """All of a chat, newest first."""
        found: list[Recording] = []
        for name in sorted(_names(self._folder / chat_id), reverse=True):
            with suppress(NotFound, OSError, msgspec.DecodeError):  # deleted meanwhile, or broken
                found.append(self.read(chat_id, name))
        return tuple(found)

    def timeline(
        self, chat_id: ChatId, recording_id: str, skip: int = 0
    ) -> tuple[tuple[Mark, ...], bool]:
        """A page of marks, and whether there are more."""
        folder = self.folder_of(chat_id, recording_id)
        # A gesture is written down when it is over, and begins earlier.
        marks = sorted(self._marks(folder), key=lambda mark: mark.at_s)
        return tuple(marks[skip : skip + PAGE]), len(marks) > skip + PAGE

    def frame(self, chat_id: ChatId, recording_id: str, number: int) -> bytes:
        """A picture.

        Raises:
            NotFound: There is none of that number.
        """
        try:
            return (self.folder_of(chat_id, recording_id) / _frame(number)).read_bytes()
        except FileNotFoundError as error:
            raise NotFound("the recording has no such picture") from error

    def delete(self, chat_id: ChatId, recording_id: str) -> None:
        """Remove a recording; none at all is fine."""
        with suppress(NotFound):
            shutil.rmtree(self.folder_of(chat_id, recording_id), ignore_errors=True)
        with suppress(OSError):  # others are left
            (self._folder / chat_id).rmdir()

    def chats(self) -> set[ChatId]:
        """Those that have recordings."""
        return {ChatId(name) for name in _names(self._folder) if is_chat_id(name)}

    def forget(self, chat_id: ChatId) -> int:
        """Remove all of a chat that do not run, broken ones too; say how many."""
        removed = 0
        for name in _names(self._folder / chat_id):
            folder = self._folder / chat_id / name
            if not _is_locked(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        with suppress(OSError):  # one still runs, on this host or another
            (self._folder / chat_id).rmdir()
        return removed

    def sweep(self, keep_s: float, now: datetime) -> int:
        """Remove what is older than that and does not run; say how many."""
        removed = 0
        for chat in self.chats():
            for recording in self.list(chat):
                old = now - recording.started_at > timedelta(seconds=keep_s)
                if old and recording.state == "ended":
                    self.delete(chat, recording.id)
                    removed += 1
        return removed

    @staticmethod
    def _marks(folder: Path) -> Iterator[Mark]:
        with suppress(FileNotFoundError), (folder / _MARKS).open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # the last one may be half written
                    yield _MARK.decode(line)


def frame_path(folder: Path, number: int) -> Path:
    """Where a picture of a recording lies."""
    return folder / _frame(number)


def _frame(number: int) -> str:
    return f"{number:06}.jpg"


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def _is_locked(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _write(path: Path, data: bytes) -> None:
    """Never half a file under this name."""
    partial = path.with_name(f".{path.name}")
    partial.touch(mode=0o600)
    partial.write_bytes(data)
    partial.replace(path)
