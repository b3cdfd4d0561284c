"""The processes of all chats of this host: who may see them, how many there may be, how they end.

A process belongs to the chat that started it. It outlives the call that started it, and ends with
the service: asked to at the end of the event loop, killed by its guard if the service is killed.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from steersman_plugin_exec.launch import Launch
from steersman_plugin_exec.log import OutputLog
from steersman_plugin_exec.output import OUTPUT_MAX, Capture
from steersman_plugin_exec.process import Process
from steersman_plugin_exec.workdir import Refused

PER_CHAT: Final = 16
"""Processes of a chat that may run at the same time."""
IN_ALL: Final = 256
KEPT_PER_CHAT: Final = 32
"""Processes of a chat that have ended and can still be asked about."""
KEPT_IN_ALL: Final = 256
TICK_S: Final = 1.0
_ID: Final = re.compile(r"p-[0-9a-f]{6}-([0-9a-f]{12})")


class Entry:
    """A process under its id.

    Attributes:
        id: Unique in this service, also after a restart: nobody takes a new process for an old one.
        process: Itself.
        command: As it was given.
        workspace: What it runs in.
        started_at: By the clock on the wall.
        ended_because: Why it was ended by us; None if it was not.
    """

    def __init__(self, *, chat_id: str, process: Process, process_id: str, launch: Launch) -> None:
        self.id = process_id
        self.chat_id = chat_id
        self.process = process
        self.command = launch.command
        self.workspace = launch.workdir.workspace
        self.started_at = datetime.now(UTC)
        self.ended_because: str | None = None
        self.closed = False
        self._reserve = launch.limits.disk_reserve_bytes

    @property
    def runs(self) -> bool:
        """Whether the shell or anything that it has started still runs."""
        return not self.closed and (not self.process.exited.is_set() or self.process.group_alive)

    def free_disk(self) -> int:
        """Bytes that are free where the workspace lies."""
        status = os.statvfs(self.workspace)
        return status.f_bavail * status.f_frsize

    async def end(self, because: str | None) -> None:
        """Ask it to end, and kill what is left after a while."""
        self.ended_because = self.ended_because or because
        await self.process.stop()
        await self.close()

    async def close(self) -> None:
        """It has ended: let go of what it held."""
        await self.process.drain()
        self.closed = True
        await self.process.close()
        _reap(self.process.pid)

    async def look_after(self) -> None:
        """End it if the disk gets full, and let go of it if it has ended."""
        if not self.runs:
            await self.close()
            return
        with suppress(OSError):
            free = self.free_disk()
            if free < self._reserve:
                # Not by asking: whoever fills the disk would go on meanwhile.
                self.ended_because = f"the disk is almost full: {free >> 20} MiB are left"
                await self.process.kill()
                await self.close()


class Processes:
    """All processes of one event loop."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._keeper: asyncio.Task[None] | None = None
        self.since = datetime.now(UTC)

    def start(
        self,
        chat_id: str,
        launch: Launch,
        *,
        with_input: bool,
        host: str | None = None,
        shown: int = OUTPUT_MAX,
    ) -> Entry:
        """Start a process of a chat.

        Args:
            chat_id: Whose it is.
            launch: What to start.
            with_input: Whether it can be written to.
            host: This host, where it may be one of several: the id then names it.
            shown: Bytes of its output that are shown at a time.

        Raises:
            Refused: The system does not start it, or too many run already.
        """
        self._check_room(chat_id)
        process_id = _new_id(host)
        while process_id in self._entries:
            process_id = _new_id(host)
        capture = Capture(OutputLog(launch.workdir.workspace, process_id), max(1024, shown))
        process = Process.start(launch, capture, with_input=with_input)
        entry = Entry(chat_id=chat_id, process=process, process_id=process_id, launch=launch)
        self._entries[process_id] = entry
        self._forget_old(chat_id)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return entry

    def find(self, chat_id: str, process_id: str) -> Entry:
        """The process of that id, if it is one of the chat.

        Raises:
            Refused: It is not; a process of another chat is no different from none.
        """
        if not self.holds(chat_id, process_id):
            raise Refused(
                f"there is no process {process_id!r} in this chat. Processes end with the service, "
                f"which runs since {self.since:%Y-%m-%d %H:%M:%S} UTC, and of those that have "
                f"ended the last {KEPT_PER_CHAT} are kept; process_list shows them"
            )
        return self._entries[process_id]

    def holds(self, chat_id: str, process_id: str) -> bool:
        """Whether a process of that id is one of the chat."""
        entry = self._entries.get(process_id)
        return entry is not None and entry.chat_id == chat_id

    @property
    def idle(self) -> bool:
        """Whether nothing runs any more."""
        return all(entry.closed for entry in self._entries.values())

    def of(self, chat_id: str) -> Iterator[Entry]:
        """The processes of a chat, the oldest first."""
        return (entry for entry in self._entries.values() if entry.chat_id == chat_id)

    def forget(self, entry: Entry) -> None:
        """Nobody will ask about it."""
        self._entries.pop(entry.id, None)

    async def end_in(self, workspace: Path, because: str) -> None:
        """End everything that runs in a workspace."""
        there = await asyncio.to_thread(workspace.resolve)
        running = [one for one in self._entries.values() if one.workspace == there]
        await asyncio.gather(*(entry.end(because) for entry in running if not entry.closed))

    async def end_all(self, because: str) -> None:
        """End everything: the service stops."""
        running = [entry for entry in self._entries.values() if not entry.closed]
        await asyncio.gather(*(entry.end(because) for entry in running))

    def _check_room(self, chat_id: str) -> None:
        running = [entry for entry in self._entries.values() if not entry.closed]
        mine = [entry.id for entry in running if entry.chat_id == chat_id and entry.runs]
        if len(mine) >= PER_CHAT:
            raise Refused(
                f"{len(mine)} processes of this chat run already, which is as many as may: "
                f"{', '.join(mine)}; end one with process_signal"
            )
        if len(running) >= IN_ALL:
            raise Refused("too many processes run on this host; try again when some have ended")

    def _forget_old(self, chat_id: str) -> None:
        ended = [entry for entry in self._entries.values() if entry.closed]
        mine = [entry for entry in ended if entry.chat_id == chat_id]
        for entry in {*ended[:-KEPT_IN_ALL], *mine[:-KEPT_PER_CHAT]}:
            self.forget(entry)
            if entry.process.output.log is not None:
                entry.process.output.log.remove()

    async def _keep(self) -> None:
        # Ends by itself when there is nothing to look after, so that it holds up nobody.
        try:
            while running := [entry for entry in self._entries.values() if not entry.closed]:
                for entry in running:
                    await entry.look_after()
                await asyncio.sleep(TICK_S)
        except asyncio.CancelledError:
            # The loop ends: that is the end of the service, whoever runs it.
            await self.end_all("the tools service stopped")
            raise


def _new_id(host: str | None) -> str:
    drawn = f"p-{secrets.token_hex(3)}"
    return drawn if host is None else f"{drawn}-{host}"


def host_in(process_id: str) -> str | None:
    """The host that holds a process, if its id names one."""
    found = _ID.fullmatch(process_id)
    return None if found is None else found[1]


_by_loop: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Processes]] = WeakKeyDictionary()


def processes() -> Processes:
    """The processes of the running event loop."""
    return _by_loop.setdefault(asyncio.get_running_loop(), Processes())


async def end_in(workspace: Path, because: str) -> None:
    """End everything that this event loop runs in a workspace."""
    await processes().end_in(workspace, because)


def _reap(group: int) -> None:
    # What is orphaned goes to the first process of the system. In a container that may be us.
    with suppress(ChildProcessError):
        while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
            continue
