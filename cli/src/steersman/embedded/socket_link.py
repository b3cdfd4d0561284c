"""A short path to PostgreSQL's socket, for data directories whose own path is too long for one."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

from steersman.private import write_private

SOCKET: Final = ".s.PGSQL.5432"
_SOCKET_PATH_MAX: Final = 107  # bytes in sockaddr_un, without the closing zero


def short_folder(folder: Path, home: Path) -> Path:
    """The folder of the socket, by a link in a short private place if its path is too long."""
    if len(os.fsencode(folder / SOCKET)) <= _SOCKET_PATH_MAX:
        return folder
    note = home / "socket-link"
    link = Path(note.read_text()) if note.exists() else None
    if link is None or not _is_our_link(link, folder):
        link = Path(tempfile.mkdtemp(prefix="steersman-", dir=_short_parent())) / "pg"
        link.symlink_to(folder)
        write_private(note, str(link))
    return link


def _is_our_link(link: Path, folder: Path) -> bool:
    # After a reboot somebody else may have made a folder of that name in /tmp.
    try:
        ours = link.parent.lstat()
        return ours.st_uid == os.geteuid() and link.readlink() == folder
    except OSError:
        return False


def _short_parent() -> str:
    # Nothing in /run ages away while we run; in /tmp it may.
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), "/run" if os.geteuid() == 0 else ""):
        if folder and len(folder) < 40 and os.access(folder, os.W_OK):
            return folder
    return "/tmp"


def remove_link(home: Path) -> None:
    """Remove the short link to the socket of a stopped server, if it needed one."""
    note = home / "socket-link"
    if note.exists():
        link = Path(note.read_text())
        link.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            link.parent.rmdir()
        note.unlink()
