"""Answers what the workspace of a chat says to its model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import structlog

from steersman_contracts.errors import DeadlineExceeded
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.context import (
    READ_CONTEXT,
    READ_SKILL,
    ReadContext,
    ReadSkill,
    SkillText,
    WorkspaceContext,
)
from steersman_runtime.rpc import RpcServer
from steersman_tools.context_files import read_context, read_skill
from steersman_tools.places import NoPlace, Places
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

T = TypeVar("T")

_BUDGET_S: Final = 4.5
"""Less than the caller waits: what is left is for the way."""
_AT_ONCE: Final = 8
"""Disks that hang must not take all threads of the process."""


class ContextServer:
    """The handlers of the group `context`."""

    def __init__(self, workspaces: Workspaces, places: Places | None = None) -> None:
        self._workspaces = workspaces
        self._places = places
        self._free = asyncio.Semaphore(_AT_ONCE)

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(READ_CONTEXT, self.read)
        server.add(READ_SKILL, self.skill)

    async def read(self, request: ReadContext) -> WorkspaceContext:
        """Read the workspace, if there is one already: asking does not make it."""
        root = await self._root(request.chat_id)
        if root is None:
            return WorkspaceContext()
        return await self._in_thread(lambda: read_context(root))

    async def skill(self, request: ReadSkill) -> SkillText:
        """Read a file of a skill of the workspace."""
        root = await self._root(request.chat_id)
        if root is None:
            return SkillText(problem=f"there is no skill {request.name!r} in the workspace")
        return await self._in_thread(lambda: read_skill(root, request.name, request.path))

    async def _root(self, chat_id: ChatId) -> Path | None:
        """Where the tools of a chat act now; None where nothing is."""
        if self._places is not None:
            try:
                place = await self._places.of(chat_id)
            except NoPlace:
                return None
            if place is not None:
                return place.path
        return self._workspaces.existing(chat_id)

    async def _in_thread(self, read: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(_BUDGET_S):
                await self._free.acquire()
                done = asyncio.get_running_loop().run_in_executor(None, read)
                # A thread that hangs keeps its place: there is no way to end it.
                done.add_done_callback(lambda _: self._free.release())
                return await asyncio.shield(done)
        except TimeoutError as error:
            log.warning("context.slow", budget_s=_BUDGET_S)
            raise DeadlineExceeded("the workspace could not be read in time") from error
