"""Tells those who watch a chat what has changed in the repositories of its workspace."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.events import WorkspaceDiffChanged
from steersman_contracts.ids import ChatId
from steersman_contracts.workspace_diff import RepositorySummary, WorkspaceDiff
from steersman_contracts.workspaces import WorkspaceId
from steersman_runtime.cloud_events import event_headers
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import encode_headers
from steersman_runtime.tasks import TaskGroup
from steersman_tools.context import CallPlace
from steersman_tools.repositories import find_repositories, read_repositories
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

_REMEMBERED: Final = 1_000
"""Workspaces of which it is known what was told last."""
_AT_ONCE: Final = 2


class _Change(NamedTuple):
    path: Path
    chats: set[ChatId]


class Changes:
    """Looks at a workspace a moment after calls that may have changed it, and tells what is new."""

    def __init__(self, publisher: Publisher, directories: Workspaces, *, quiet_s: float) -> None:
        """Begin with nothing to look at.

        Args:
            publisher: The way to the event log.
            directories: Knows how commands are confined.
            quiet_s: Seconds from a call to the look; all calls meanwhile have one look.
        """
        self._publisher = publisher
        self._directories = directories
        self._quiet_s = quiet_s
        self._waiting: dict[WorkspaceId, _Change] = {}
        self._told: OrderedDict[WorkspaceId, str] = OrderedDict()
        self._looks = TaskGroup("changes")
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def noticed(self, place: CallPlace, chat_id: ChatId) -> None:
        """A call of this chat may have changed files there."""
        chats = {chat_id, place.root_id}
        waiting = self._waiting.get(place.workspace_id)
        if waiting is not None:
            waiting.chats.update(chats)
            return
        self._waiting[place.workspace_id] = _Change(place.path, chats)
        self._looks.start(self._look(place.workspace_id))

    async def close(self) -> None:
        """Look at nothing more."""
        await self._looks.cancel()

    async def read(self, workspace_id: WorkspaceId, path: Path) -> WorkspaceDiff:
        """What is not committed in a workspace.

        Raises:
            Unavailable: Git cannot be run here.
        """
        async with self._turns:
            found = await asyncio.to_thread(find_repositories, path)
            return await read_repositories(path, workspace_id, self._directories.sandbox, found)

    async def _look(self, workspace_id: WorkspaceId) -> None:
        await asyncio.sleep(self._quiet_s)
        change = self._waiting.pop(workspace_id)
        try:
            diff = await self.read(workspace_id, change.path)
        except SteersmanError as error:
            log.info("changes.not_read", workspace_id=workspace_id, error_code=error.code)
            return
        known = self._told.pop(workspace_id, None)
        self._told[workspace_id] = diff.digest
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        if known == diff.digest or (known is None and not diff.repositories):
            return
        for chat_id in sorted(change.chats):
            self._tell(chat_id, diff)

    def _tell(self, chat_id: ChatId, diff: WorkspaceDiff) -> None:
        event = WorkspaceDiffChanged(
            chat_id=chat_id,
            workspace_id=diff.workspace_id,
            digest=diff.digest,
            repositories=tuple(
                RepositorySummary(
                    one.path, one.branch, one.files, one.additions, one.deletions, one.error
                )
                for one in diff.repositories
            ),
        )
        # The same changes can come and go: the digest alone would name several events.
        event_id = f"{diff.workspace_id}.{secrets.token_hex(8)}"
        headers = encode_headers(event_headers(event.name, chat_id, event_id))
        try:
            published = self._publisher.publish(
                subjects.chat_events(chat_id), msgspec.json.encode(event), headers=headers
            )
        except SteersmanError as error:
            log.info("changes.not_told", chat_id=chat_id, error_code=error.code)
            return
        published.add_done_callback(_look_at)


def _look_at(published: asyncio.Future[int]) -> None:
    # Whoever misses it asks for the diff, or hears of the next change.
    if not published.cancelled() and (error := published.exception()) is not None:
        log.info("changes.not_told", error=str(error))
