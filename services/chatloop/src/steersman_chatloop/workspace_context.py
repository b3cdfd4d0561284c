"""What the workspaces of chats say, asked of the tools service once a turn, within bounds."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final

import structlog

from steersman_contracts.errors import DeadlineExceeded, SteersmanError
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.context import (
    READ_CONTEXT,
    READ_SKILL,
    ReadContext,
    ReadSkill,
    SkillText,
    WorkspaceContext,
)
from steersman_contracts.rpc.desktop import GET_DESKTOP, Desktop, GetDesktop
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

BUDGET_S: Final = 5.0
_QUIET_S: Final = 30.0
"""After a workspace was too slow: not every turn is to wait for it."""
_KEPT: Final = 256
_FRESH_S: Final = 600.0
"""How long a turn that has waited goes on with what it has read."""


class WorkspaceContexts:
    """Reads them, and remembers the last ones for when they cannot be read.

    Args:
        client: The tools service is asked through it.
        budget_s: How long a turn waits for an answer.
        quiet_s: How long nobody is asked after that.
    """

    def __init__(
        self, client: NatsClient, *, budget_s: float = BUDGET_S, quiet_s: float = _QUIET_S
    ) -> None:
        self._budget_s = budget_s
        self._quiet_s = quiet_s
        # Who has no tools service at all does not wait for one.
        self._rpc = RpcClient(client, wait_for_service_s=0)
        self._known: OrderedDict[ChatId, tuple[WorkspaceContext, float]] = OrderedDict()
        self._quiet_until: dict[ChatId, float] = {}
        self._ahead: dict[ChatId, asyncio.Task[WorkspaceContext]] = {}
        self._reading = TaskGroup("context")

    async def aclose(self) -> None:
        """End what is still read."""
        await self._reading.cancel()

    def foresee(self, chat_id: ChatId) -> None:
        """A turn may be about to begin: read at once, if the chat's last turn has read as well."""
        now = time.monotonic()
        if chat_id in self._known and now >= self._quiet_until.get(chat_id, 0.0):
            self.forget(chat_id)
            self._ahead[chat_id] = self._reading.start(self._read(chat_id))

    def forget(self, chat_id: ChatId) -> None:
        """Another turn begins, or none: what was foreseen is not for it."""
        ahead = self._ahead.pop(chat_id, None)
        if ahead is not None:
            ahead.cancel()

    async def read(self, chat_id: ChatId, *, goes_on: bool = False) -> WorkspaceContext:
        """What the workspace says now; what it said last, or nothing, if that takes too long.

        Args:
            chat_id: The chat.
            goes_on: In the middle of a turn, which has waited for somebody: what was said not long
                ago still holds, and the model sees the same prompt as before.
        """
        now = time.monotonic()
        if now < self._quiet_until.get(chat_id, 0.0) or (goes_on and self._is_fresh(chat_id, now)):
            return self._last(chat_id)
        ahead = self._ahead.pop(chat_id, None)
        if ahead is None:
            return await self._read(chat_id)
        try:
            return await ahead
        finally:
            ahead.cancel()

    async def _read(self, chat_id: ChatId) -> WorkspaceContext:
        now = time.monotonic()
        try:
            found = await self._rpc.call(
                READ_CONTEXT, ReadContext(chat_id), deadline_s=self._budget_s
            )
        except SteersmanError as error:
            log.warning("context.not_read", error_code=error.code)
            if isinstance(error, DeadlineExceeded):
                self._quiet_until[chat_id] = time.monotonic() + self._quiet_s
            return self._last(chat_id)
        self._quiet_until.pop(chat_id, None)
        self._known[chat_id] = found, now
        self._known.move_to_end(chat_id)
        while len(self._known) > _KEPT:
            forgotten, _ = self._known.popitem(last=False)
            self._quiet_until.pop(forgotten, None)
        return found

    async def skill(self, chat_id: ChatId, name: str, path: str) -> SkillText:
        """A file of a skill.

        Raises:
            SteersmanError: It cannot be asked for.
        """
        request = ReadSkill(chat_id, name, path)
        return await self._rpc.call(READ_SKILL, request, deadline_s=self._budget_s)

    async def desktop(self, chat_id: ChatId, owner_id: UserId) -> Desktop | None:
        """The desktop of a chat; None when nobody can say."""
        try:
            request = GetDesktop(Actor(owner_id), chat_id)
            return await self._rpc.call(GET_DESKTOP, request, deadline_s=self._budget_s)
        except SteersmanError as error:
            log.info("desktop.not_known", error_code=error.code)
            return None

    def _last(self, chat_id: ChatId) -> WorkspaceContext:
        found, _ = self._known.get(chat_id, (WorkspaceContext(), 0.0))
        return found

    def _is_fresh(self, chat_id: ChatId, now: float) -> bool:
        return chat_id in self._known and now - self._known[chat_id][1] < _FRESH_S
