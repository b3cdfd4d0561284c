"""The directories that tools act on, one per chat."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import Final

import structlog

from steersman_contracts.errors import InvalidRequest, Unavailable
from steersman_contracts.ids import ChatId, is_chat_id
from steersman_contracts.sandbox import UNCONFINED, Owner, Sandbox
from steersman_contracts.workspaces import WorkspaceId

log = structlog.stdlib.get_logger()

_NOBODY: Final = 65534


class Workspaces:
    """Makes the directory of a chat on first use.

    As root, each belongs to an unprivileged user: commands in it run as the owner, not as us.
    """

    def __init__(self, root: Path, *, uid: int | None = None) -> None:
        """Prepare the directory that holds them.

        Args:
            root: Made if it is missing.
            uid: Who owns the workspaces when we are root; None is the user `nobody`.

        Raises:
            Unavailable: The directory cannot be made or written.
        """
        self.sandbox: Sandbox = UNCONFINED
        """What confines the commands in them."""
        self._root = root.absolute()
        self._owner = _owner(uid) if os.geteuid() == 0 else None
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            # The owner of a workspace passes through, and cannot see the others.
            self._root.chmod(0o700 if self._owner is None else 0o711)
        except OSError as error:
            raise Unavailable(
                f"the workspaces directory {str(root)!r}: {error.strerror}"
            ) from error
        if self._owner is not None:
            for folder in self._root.parents:
                if not folder.stat().st_mode & stat.S_IXOTH:
                    log.warning("workspaces.unreachable", folder=str(folder), uid=self._owner[0])

    @property
    def owner(self) -> Owner | None:
        """Who owns them and runs commands in them; None is whoever runs this process."""
        return None if self._owner is None else Owner(*self._owner)

    def managed(self, workspace_id: WorkspaceId) -> Path:
        """Where the files of a workspace are; not whether they are there."""
        # Chat ids can be chosen by clients: no chat's own directory is ever a workspace's.
        return self._root / f"w-{workspace_id}"

    def make(self, workspace_id: WorkspaceId) -> Path:
        """The directory of a new workspace, empty, mode 0700.

        Raises:
            OSError: It cannot be made.
        """
        path = self.managed(workspace_id)
        path.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)
        return path

    def remove(self, workspace_id: WorkspaceId) -> bool:
        """Remove the files of a workspace; say whether nothing is left. Blocks."""
        path = self.managed(workspace_id)
        shutil.rmtree(path, ignore_errors=True)
        return not os.path.lexists(path)

    def existing(self, chat_id: ChatId) -> Path | None:
        """The workspace of a chat, if there is one already."""
        if not is_chat_id(chat_id):
            return None
        path = self._root / chat_id
        return path if path.is_dir() and not path.is_symlink() else None

    def path(self, chat_id: ChatId) -> Path:
        """The workspace of a chat; it is there afterwards, mode 0700.

        Raises:
            InvalidRequest: Not a chat id: it would be a path to somewhere else.
            OSError: It cannot be made.
        """
        if not is_chat_id(chat_id):
            raise InvalidRequest(f"not a chat id: {chat_id!r:.80}", field="chat_id")
        path = self._root / chat_id
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if path.is_symlink() or not path.is_dir():
                raise NotADirectoryError(f"the workspace {chat_id} is not a directory") from None
            if self._owner is None or path.stat().st_uid == self._owner[0]:
                return path
        if self._owner is not None:
            # Nobody but root can write to the folder above: this is what we have just looked at.
            os.chown(path, *self._owner, follow_symlinks=False)
        return path


def _owner(uid: int | None) -> tuple[int, int]:
    try:
        user = pwd.getpwnam("nobody") if uid is None else pwd.getpwuid(uid)
    except KeyError:
        number = _NOBODY if uid is None else uid
        return number, number
    return user.pw_uid, user.pw_gid
