"""Records what agents do that were spawned to use a desktop: from their first action to their end.

An agent's run is told to the store, whose report of the agent then says where to see it. When a
recording reaches a limit the next one follows it; when a person stops one, none does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from steersman_contracts.errors import SteersmanError
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.agent_recordings import (
    FIND_DONE,
    RECORDED,
    AgentRecorded,
    FindDone,
)
from steersman_desktop.archive import Archive
from steersman_desktop.recorder import LIMITS
from steersman_desktop.session import Session
from steersman_desktop.whose import Whose
from steersman_runtime.rpc import RpcClient
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

CHECK_S: Final = 5.0
"""Between two questions which agents are done. A screen that is still costs nothing meanwhile."""
MAX_PARTS: Final = 8
"""Recordings of one run; one that never ends must not fill the disk."""
_ASKED: Final = 1000


@dataclass
class _Run:
    """What was recorded of one agent."""

    chat_id: ChatId
    """Whose desktop it uses."""
    parts: list[str] = field(default_factory=list[str])
    """Ids, the one that runs last."""
    told: int = 0
    """How many of them the store knows."""


class AgentFilms:
    """The recordings of the agents that use desktops of this instance."""

    def __init__(self, client: RpcClient, whose: Whose, archive: Archive, tasks: TaskGroup) -> None:
        self._client = client
        self._whose = whose
        self._archive = archive
        self._tasks = tasks
        self._runs: dict[ChatId, _Run | None] = {}
        """None: it was not spawned for that."""
        self._begin = asyncio.Lock()

    async def before(self, session: Session, agent: ChatId) -> None:
        """Have the agent recorded before it does something, which must not fail for that."""
        run = self._runs.get(agent)
        if agent in self._runs and (run is None or not self._wants(session, run)):
            return
        try:
            async with self._begin:
                run = await self._run(session, agent)
                if run is not None and self._wants(session, run):
                    await self._follow(session, agent, run)
        except SteersmanError as error:  # the next action asks again
            log.warning("agent.not_recorded", chat_id=agent, error_code=error.code)

    @staticmethod
    def _wants(session: Session, run: _Run) -> bool:
        """Whether something is to be done before this run goes on."""
        if not run.parts:
            return True
        ended = session.recording != run.parts[-1]
        return ended and session.recording_ended in LIMITS and len(run.parts) < MAX_PARTS

    async def _run(self, session: Session, agent: ChatId) -> _Run | None:
        if agent not in self._runs:
            kind = (await self._whose.desktop(agent)).agent_kind
            self._runs[agent] = _Run(session.chat_id) if kind == "computer_use" else None
        return self._runs[agent]

    async def _follow(self, session: Session, agent: ChatId, run: _Run) -> None:
        part = (await session.record(self._archive)).id
        if part not in run.parts:
            run.parts.append(part)
            # On the side: a desktop that is in use goes on without the store.
            self._tasks.start(self._tell_soon(agent, run))

    async def _tell_soon(self, agent: ChatId, run: _Run) -> None:
        try:
            await self._tell(agent, run)
        except SteersmanError as error:  # `check` tells it again
            log.warning("recording.not_told", chat_id=agent, error_code=error.code)

    async def _tell(self, agent: ChatId, run: _Run) -> None:
        for count in range(run.told, len(run.parts)):
            request = AgentRecorded(agent, run.chat_id, run.parts[count])
            await self._client.call(RECORDED, request)
            run.told = max(run.told, count + 1)

    async def check(self, sessions: Mapping[ChatId, Session]) -> None:
        """Tell what was not told yet, and end the recordings of agents that are done.

        Raises:
            SteersmanError: The store does not answer.
        """
        for agent, run in list(self._runs.items()):
            if run is not None and run.chat_id not in sessions:
                del self._runs[agent]  # it ended with the desktop
            elif run is not None:
                await self._tell(agent, run)
        running = [agent for agent, run in self._runs.items() if run is not None and run.parts]
        for first in range(0, len(running), _ASKED):
            request = FindDone(tuple(running[first : first + _ASKED]))
            for agent in (await self._client.call(FIND_DONE, request)).chat_ids:
                run = self._runs.pop(agent, None)
                session = None if run is None else sessions.get(run.chat_id)
                if run is not None and session is not None:
                    await session.end_recording(run.parts[-1], "the agent is done")

    def forget(self, session: Session) -> None:
        """The desktop is gone; what agents do on its successor is recorded anew."""
        for agent, run in list(self._runs.items()):
            if run is None or run.chat_id == session.chat_id:
                del self._runs[agent]
