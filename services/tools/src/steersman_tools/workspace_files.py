"""Files of a workspace for people: looked at, read and put there without following any link.

Whatever runs in the workspace may exchange files meanwhile; see `steersman_contracts.confinement`.
Everything here blocks on the file system.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
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
from steersman_contracts.rpc.files import CHUNK_BYTES, MAX_FILE_BYTES
from steersman_contracts.rpc.workspaces import (
    MAX_DOWNLOAD_BYTES,
    MAX_ENTRIES,
    EntryKind,
    FileEntry,
    Folder,
    Piece,
)

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MORE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def browse(root: Path, path: str) -> Folder:
    """What is in a directory, by name.

    Raises:
        NotFound, Conflict, InvalidRequest: See `_said`.
    """
    with _said(), open_workspace(root) as workspace:
        names = workspace.split(path or ".")
        with workspace.folder(names) as folder, os.scandir(folder) as found:
            # By the name itself: two that are no text may be shown alike.
            entries = sorted(((_shown(one.name), one) for one in found), key=_order)
            shown = [_entry(name, entry) for name, entry in entries[:MAX_ENTRIES]]
        return Folder("/".join(names) or ".", tuple(shown), len(entries))


def read(root: Path, path: str, offset: int, tag: str) -> Piece:
    """Some bytes of a regular file.

    Raises:
        Conflict: It is not what it was when its first bytes were read.
        PayloadTooLarge: It is larger than is sent.
        NotFound, InvalidRequest: See `_said`.
    """
    with (
        _said(),
        open_workspace(root) as workspace,
        workspace.place(path) as place,
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


def write(root: Path, path: str, upload_id: str, offset: int, data: bytes) -> None:
    """Put some bytes of an upload beside the file that it will be. Directories above are made.

    Raises:
        PayloadTooLarge: It grows larger than a file may be.
        NotFound, Conflict, InvalidRequest: See `_said`.
    """
    if offset + len(data) > MAX_FILE_BYTES:
        raise PayloadTooLarge("the file is larger than may be uploaded", limit=MAX_FILE_BYTES)
    with (
        _said(),
        open_workspace(root) as workspace,
        workspace.place(path, create_parents=True) as place,
    ):
        workspace.existing(place)  # refuses early what will not be replaced
        opened = _open(workspace, place, upload_id)
        try:
            os.pwrite(opened, data, offset)
        except OSError as error:
            raise refusal(error, place.shown) from error
        finally:
            os.close(opened)


def finish(root: Path, path: str, upload_id: str, size: int) -> FileEntry:
    """Put an upload in its place, in one step.

    Raises:
        Conflict: It is not all there.
        NotFound, InvalidRequest: See `_said`.
    """
    with (
        _said(),
        open_workspace(root) as workspace,
        workspace.changing(),
        workspace.place(path) as place,
    ):
        before = workspace.existing(place)
        staged = _staged(upload_id)
        opened = _open(workspace, place, upload_id)
        try:
            if os.fstat(opened).st_size != size:
                raise Conflict("the upload is not all there")
            if before is not None:
                os.fchmod(opened, stat.S_IMODE(before.st_mode) & 0o777)
            os.rename(staged, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            status = os.fstat(opened)
        except OSError as error:
            raise refusal(error, place.shown) from error
        finally:
            os.close(opened)
        return FileEntry(place.name, "file", status.st_size, _time(status))


def abort(root: Path, path: str, upload_id: str) -> None:
    """Remove what was uploaded of a file."""
    with (
        suppress(NotFound, OSError),
        _said(),
        open_workspace(root) as workspace,
        workspace.place(path) as place,
    ):
        os.unlink(_staged(upload_id), dir_fd=place.directory)


def _staged(upload_id: str) -> str:
    return f".steersman-upload-{upload_id}.tmp"


def _open(workspace: Workspace, place: Place, upload_id: str) -> int:
    """Open the upload, and nothing that was put in its place."""
    name = _staged(upload_id)
    try:
        opened = os.open(name, _NEW, 0o666, dir_fd=place.directory)
        workspace.hand_over(opened)
    except FileExistsError:
        try:
            opened = os.open(name, _MORE, dir_fd=place.directory)
        except OSError as error:
            raise Conflict("the upload was interfered with") from error
        status = os.fstat(opened)
        owner = workspace.status.st_uid
        # A hard link may be another name of a file that only we may write.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != owner:
            os.close(opened)
            raise Conflict("the upload was interfered with") from None
    except OSError as error:
        raise refusal(error, place.shown) from error
    return opened


def _entry(name: str, entry: os.DirEntry[str]) -> FileEntry:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # gone meanwhile
        return FileEntry(name, "other")
    kinds: dict[int, EntryKind] = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "link",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
    return FileEntry(name, kind, status.st_size if kind == "file" else None, _time(status))


def _time(status: os.stat_result) -> datetime | None:
    try:
        return datetime.fromtimestamp(status.st_mtime, UTC)
    except (OverflowError, ValueError, OSError):  # any program can set any time
        return None


def _order(named: tuple[str, os.DirEntry[str]]) -> tuple[str, bytes]:
    shown, entry = named
    return shown, os.fsencode(entry.name)


def _shown(name: str) -> str:
    return name.encode(errors="replace").decode()


@contextmanager
def _said() -> Generator[None]:
    """Say to a person what was refused to a model.

    Raises:
        NotFound: There is no such file.
        InvalidRequest: The path is none, or leads outside.
        Conflict: It cannot be used as it is.
    """
    # What a model is told to do about it comes after the semicolon.
    try:
        yield
    except Missing as refused:
        raise NotFound("there is no such file") from refused
    except BadPath as refused:
        raise InvalidRequest(str(refused).partition(";")[0], field="path") from refused
    except Refused as refused:
        raise Conflict(str(refused).partition(";")[0]) from refused
