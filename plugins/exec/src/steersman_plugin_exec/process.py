"""A running command: its process group, its output and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from steersman_plugin_exec.launch import Launch
from steersman_plugin_exec.output import Ring
from steersman_plugin_exec.workdir import Refused

STOP_S: Final = 2.0
"""From TERM to KILL."""

DRAIN_S: Final = 0.25
"""How long output may come after the exit, from processes that were left behind."""

_POLL_S: Final = 0.02
_KILLED_S: Final = 1.0
_READ: Final = 256 * 1024
# Waits beside each command and kills its group once its own input ends: then this process has died.
# The parent-death signal alone would reach the shell, and not what the shell has started.
_GUARD: Final = 'read -r word || kill -s KILL -- "-$1"'


class Process:
    """One command in a process group of its own.

    Start it by `start`, and always `close` it. All methods belong to the event loop's thread.

    Attributes:
        pid: Of the shell; the id of the process group as well.
        output: What it has printed.
        exited: Set once the shell has ended and been reaped.
        drained: Set once nobody holds the output any more.
    """

    def __init__(self, popen: subprocess.Popen[bytes], output: int, ring: Ring) -> None:
        self.pid = popen.pid
        self.output = ring
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self.on_output: Callable[[], None] | None = None
        self._popen = popen
        self._descriptor = output
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        self._ended: float | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, launch: Launch, ring: Ring) -> Process:
        """Start a command.

        Raises:
            Refused: The system does not start it.
        """
        try:
            reading, writing = os.pipe()
        except OSError as error:
            raise Refused(f"the command cannot be started: {error}") from error
        try:
            process = cls(launch.start(writing), reading, ring)
        except Refused:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        process._loop.add_reader(reading, process._read)
        when_exited(process._popen, process._on_exit)
        try:
            process._guard = subprocess.Popen(
                ("/bin/sh", "-c", _GUARD, "sh", str(process.pid)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        except OSError as error:
            process.signal(signal.SIGKILL)
            process._detach()
            raise Refused(f"the command cannot be started: {error}") from error
        return process

    @property
    def exit_code(self) -> int | None:
        """What it exited with; None while it runs, and if a signal ended it."""
        code = self._popen.returncode
        return code if code is not None and code >= 0 else None

    @property
    def exit_signal(self) -> str | None:
        """The name of the signal that ended it."""
        code = self._popen.returncode
        return signal_name(-code) if code is not None and code < 0 else None

    @property
    def wall_time_s(self) -> float:
        """Seconds from the start to the end, or to now."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def group_alive(self) -> bool:
        """Whether anything of its process group still runs, the shell or what it started."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        # The dead belong to their group until somebody reaps them, which can take seconds.
        return not self.exited.is_set() or any_runs(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group. Nothing happens if the group is gone."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    async def drain(self, grace_s: float = DRAIN_S) -> None:
        """Wait until all output has come; at most `grace_s`, because a daemon may hold it open."""
        try:
            async with asyncio.timeout(grace_s):
                await self.drained.wait()
        except TimeoutError:
            return

    async def stop(self, grace_s: float = STOP_S) -> None:
        """Ask the group to end, and kill what is left of it after `grace_s`."""
        self.signal(signal.SIGTERM)
        try:
            await self._group_gone(grace_s)
        finally:
            if self.group_alive:
                self.signal(signal.SIGKILL)
        await self.exited.wait()
        await self._group_gone(_KILLED_S)

    async def _group_gone(self, within_s: float) -> None:
        # The end of the shell is an event, the end of the rest of its group is none.
        deadline = time.monotonic() + within_s
        while self.group_alive and time.monotonic() < deadline:  # noqa: ASYNC110  # groups cannot be awaited
            await asyncio.sleep(_POLL_S)

    async def close(self) -> None:
        """Let go of it. If it still runs, it is killed; what it left behind goes on."""
        try:
            if not self.exited.is_set():
                self.signal(signal.SIGKILL)
                await self.exited.wait()
        finally:
            self._detach()
            await self._dismiss_guard()

    async def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is None or guard.stdin is None:
            return
        gone = asyncio.Event()
        when_exited(guard, gone.set)
        guard.kill()
        guard.stdin.close()
        await gone.wait()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return
        if not data:
            self._detach()
            return
        self.output.add(data)
        if self.on_output is not None:
            self.on_output()

    def _detach(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self.drained.set()

    def _on_exit(self) -> None:
        self._ended = time.monotonic()
        self.exited.set()


def when_exited(popen: subprocess.Popen[bytes], callback: Callable[[], None]) -> None:
    """Reap a process once it has ended, then call back in the event loop."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(popen.pid)
    except (AttributeError, OSError):  # not Linux, or an old one, or a sandbox without it
        in_thread(popen, callback)
        return

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        popen.wait()
        callback()

    loop.add_reader(descriptor, ended)


def in_thread(popen: subprocess.Popen[bytes], callback: Callable[[], None]) -> None:
    """Do the same with a thread that waits; not one of the pool's, which are few."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        popen.wait()
        loop.call_soon_threadsafe(callback)

    threading.Thread(target=wait, name=f"wait-{popen.pid}", daemon=True).start()


def any_runs(group: int) -> bool:
    """Whether a process group has members that are not dead; True where nothing tells."""
    statuses = list(Path("/proc").glob("[0-9]*/stat"))
    return not statuses or any(_runs(status, group) for status in statuses)


def _runs(status: Path, group: int) -> bool:
    try:
        state, _, members_of, *_ = status.read_text(errors="replace").rpartition(") ")[2].split()
    except (OSError, ValueError):  # it has gone meanwhile
        return False
    return int(members_of) == group and state not in "ZX"


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number where there is no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
