"""The folder of a desktop through which files come and go: where its browser puts downloads.

Whatever runs on the desktop may change it at any moment, so no link is followed on the way to a
file and nothing is trusted between two steps; see `steersman_contracts.confinement`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from steersman_contracts.confinement import (
    BadPath,
    Missing,
    Place,
    Refused,
    Workspace,
    open_workspace,
    refusal,
)
from steersman_contracts.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge
from steersman_contracts.rpc.desktop_files import MAX_ENTRIES, FileList
from steersman_contracts.rpc.files import CHUNK_BYTES, MAX_FILE_BYTES
from steersman_contracts.rpc.workspaces import MAX_DOWNLOAD_BYTES, FileEntry, Piece

FOLDER: Final = ("home", "Downloads")
"""Below that of a place."""
_PARTS: Final = ".steersman-"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MORE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def entries(root: Path) -> FileList:
    """What is there, by name."""
    with _said(), open_workspace(root) as workspace, workspace.folder(FOLDER) as folder:
        there = os.listdir(folder)  # noqa: PTH208  # of a descriptor
        names = sorted(name for name in there if not name.startswith(_PARTS))
        found: list[FileEntry] = []
        for name in names[:MAX_ENTRIES]:
            with suppress(OSError):  # gone meanwhile
                found.append(_entry(name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
    return FileList(tuple(found), len(names))


def read(root: Path, path: str, offset: int, tag: str) -> Piece:
    """A piece of a file.

    Raises:
        Conflict: It is not of the content that `tag` names, or no plain file.
        PayloadTooLarge: It is larger than is sent.
        NotFound, InvalidRequest: See `_said`.
    """
    with (
        _said(),
        open_workspace(root) as workspace,
        _place(workspace, path) as place,
        workspace.reading(place) as (file, status),
    ):
        if status.st_size > MAX_DOWNLOAD_BYTES:
            raise PayloadTooLarge(
                f"the file has {status.st_size} bytes; at most {MAX_DOWNLOAD_BYTES} are sent",
                limit=MAX_DOWNLOAD_BYTES,
            )
        now = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
        if tag and tag != now:
            raise Conflict("the file was changed meanwhile; read it again")
        return Piece(os.pread(file.fileno(), CHUNK_BYTES, offset), status.st_size, now)


def write(
    root: Path, path: str, upload_id: str, offset: int, data: bytes, size: int | None
) -> FileEntry:
    """Put bytes beside the file that they will be; with `size` put all of them in its place.

    Raises:
        PayloadTooLarge: It grows larger than a file may be.
        Conflict: It is not all there, or something else than a file has the name.
        NotFound, InvalidRequest: See `_said`.
    """
    if offset + len(data) > MAX_FILE_BYTES:
        raise PayloadTooLarge("the file is larger than may be uploaded", limit=MAX_FILE_BYTES)
    part = f"{_PARTS}{upload_id}.part"
    with _said(), open_workspace(root) as workspace, _place(workspace, path, make=True) as place:
        workspace.existing(place)  # refuses what will not be replaced
        opened = _open(workspace, place, part)
        try:
            os.pwrite(opened, data, offset)
            status = os.fstat(opened)
            if size is not None:
                if status.st_size != size:
                    raise Conflict("the upload is not all there")
                os.rename(part, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
        except OSError as error:
            raise refusal(error, place.name) from error
        finally:
            os.close(opened)
        return _entry(place.name, status)


@contextmanager
def _place(workspace: Workspace, path: str, *, make: bool = False) -> Generator[Place]:
    names = workspace.split(path)
    if not names or path.startswith("/"):
        raise BadPath(f"{path!r:.80} names no file in the folder")
    if names[-1].startswith(_PARTS):
        raise BadPath(f"{path!r:.80} is a name of this service's own")
    whole = "/".join((*FOLDER, *names))
    with workspace.place(whole, create_parents=make) as place:
        yield place


def _open(workspace: Workspace, place: Place, part: str) -> int:
    """Open what is being uploaded, and nothing that was put in its place."""
    try:
        opened = os.open(part, _NEW, 0o600, dir_fd=place.directory)
        workspace.hand_over(opened)
    except FileExistsError:
        try:
            opened = os.open(part, _MORE, dir_fd=place.directory)
        except OSError as error:
            raise Conflict("the upload was interfered with") from error
        status = os.fstat(opened)
        # A hard link may be another name of a file that only we may write.
        own = status.st_nlink == 1 and status.st_uid == workspace.status.st_uid
        if not (stat.S_ISREG(status.st_mode) and own):
            os.close(opened)
            raise Conflict("the upload was interfered with") from None
    except OSError as error:
        raise refusal(error, place.name) from error
    return opened


def _entry(name: str, status: os.stat_result) -> FileEntry:
    shown = name.encode(errors="replace").decode()
    if stat.S_ISREG(status.st_mode):
        return FileEntry(shown, "file", status.st_size)
    if stat.S_ISDIR(status.st_mode):
        return FileEntry(shown, "directory")
    return FileEntry(shown, "link" if stat.S_ISLNK(status.st_mode) else "other")


@contextmanager
def _said() -> Generator[None]:
    """Say to a person what was refused.

    Raises:
        NotFound: There is no such file.
        InvalidRequest: The path is none, or leads outside.
        Conflict: It cannot be used as it is.
    """
    # What comes after the semicolon is advice for models with other tools.
    try:
        yield
    except Missing as refused:
        raise NotFound("there is no such file on the desktop") from refused
    except BadPath as refused:
        raise InvalidRequest(str(refused).partition(";")[0], field="path") from refused
    except Refused as refused:
        raise Conflict(str(refused).partition(";")[0]) from refused
