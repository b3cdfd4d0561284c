"""A running command: its process group, its output and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from steersman_contracts.cgroups import Group, Groups
from steersman_plugin_exec.launch import Launch
from steersman_plugin_exec.output import Capture
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
        input: Where its input is written to; None if it has none.
        exited: Set once the shell has ended and been reaped.
        listeners: Called whenever there is more output.
        drained: Set once nobody holds the output any more.
    """

    def __init__(
        self, popen: subprocess.Popen[bytes], output: int, capture: Capture, *, isolated: bool
    ) -> None:
        self.pid = popen.pid
        self.output = capture
        self.input: Input | None = None
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self.listeners: set[Callable[[], None]] = set()
        self._popen = popen
        self._isolated = isolated
        self._descriptor = output
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        self._ended: float | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._group: Group | None = None
        self._groups: Groups | None = None

    @classmethod
    def start(cls, launch: Launch, capture: Capture, *, with_input: bool = False) -> Process:
        """Start a command.

        Args:
            launch: What to start.
            capture: Takes its output.
            with_input: Give it an input that stays open. Otherwise it reads the end at once.

        Raises:
            Refused: The system does not start it.
        """
        with ExitStack() as ours, ExitStack() as theirs:
            reading, writing = _pipe(ours, theirs)
            given, giving = _pipe(theirs, ours) if with_input else (None, None)
            group = launch.group()
            if group is not None and launch.groups is not None:
                ours.callback(launch.groups.give_back, group)
            popen = launch.start(writing, given, group)
            ours.pop_all()
        process = cls(popen, reading, capture, isolated=launch.isolated)
        process._group, process._groups = group, launch.groups
        process.input = None if giving is None else Input(giving)
        os.set_blocking(reading, False)
        process._loop.add_reader(reading, process._read)
        when_exited(popen, process._on_exit)
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
        """What it exited with, 128 + n if signal n ended it; None while it runs."""
        code = self._popen.returncode
        return 128 - code if code is not None and code < 0 else code

    @property
    def exit_signal(self) -> str | None:
        """The name of the signal that ended it."""
        code = self._popen.returncode
        if code is None:
            return None
        if code < 0:
            return signal_name(-code)
        # A sandbox tells of a signal as a shell does.
        return signal_name(code - 128) if self._isolated and 128 < code <= 192 else None

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
        """Send a signal to the whole group. Nothing happens if the group is gone.

        KILL also reaches what has left it for a session of its own, where there are control groups.
        """
        if number is signal.SIGKILL and self._group is not None:
            self._group.kill()
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def ask_to_end(self) -> None:
        """Send TERM to the command and what it has started, as far as it is in the group."""
        if not self._isolated:
            self.signal(signal.SIGTERM)
            return
        # The sandbox would take it as well, and then nobody would know how the command ended.
        for pid in members(self.pid):
            if pid != self.pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM)

    async def drain(self, grace_s: float = DRAIN_S) -> None:
        """Wait until all output has come; at most `grace_s`, because a daemon may hold it open."""
        try:
            async with asyncio.timeout(grace_s):
                await self.drained.wait()
        except TimeoutError:
            return

    async def stop(self, grace_s: float = STOP_S) -> None:
        """Ask the group to end, and kill what is left of it after `grace_s`."""
        self.ask_to_end()
        try:
            await self.group_gone(grace_s)
        finally:
            if self.group_alive:
                self.signal(signal.SIGKILL)
        await self.exited.wait()
        await self.group_gone(_KILLED_S)

    async def kill(self) -> None:
        """End the group at once."""
        self.signal(signal.SIGKILL)
        await self.exited.wait()
        await self.group_gone(_KILLED_S)

    async def group_gone(self, within_s: float) -> None:
        """Wait for the end of everything in the group, at most `within_s`."""
        # The end of the shell is an event, the end of the rest of its group is none.
        deadline = time.monotonic() + within_s
        while self.group_alive and time.monotonic() < deadline:  # noqa: ASYNC110  # groups cannot be awaited
            await asyncio.sleep(_POLL_S)

    async def close(self) -> None:
        """Let go of it. If it still runs, it is killed; what it left behind goes on.

        May be called again.
        """
        try:
            if not self.exited.is_set():
                self.signal(signal.SIGKILL)
                await self.exited.wait()
        finally:
            self._detach()
            if self._group is not None and self._groups is not None:
                self._groups.give_back(self._group)
                self._group = None
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
        for listener in self.listeners:
            listener()

    def _detach(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self.output.close()
        self.drained.set()

    def _on_exit(self) -> None:
        self._ended = time.monotonic()
        if self.input is not None:
            self.input.close()
        self.exited.set()


def _pipe(reading: ExitStack, writing: ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed with the stacks that they belong to."""
    try:
        ends = os.pipe()
    except OSError as error:
        raise Refused(f"the command cannot be started: {error}") from error
    reading.callback(os.close, ends[0])
    writing.callback(os.close, ends[1])
    return ends


class Input:
    """The writing end of a process's input. It belongs to the event loop's thread."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._turn = asyncio.Lock()
        self._ready = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._descriptor < 0

    async def write(self, data: bytes, within_s: float) -> int:
        """Write as much as the process takes within a time.

        Returns:
            How many bytes it took. Less than all: the time is over, or it has closed its end.
        """
        written = 0
        try:
            async with asyncio.timeout(within_s), self._turn:
                while written < len(data) and not self.closed:
                    written += await self._some(data[written:])
        except TimeoutError:
            return written
        return written

    async def _some(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            await self._writable()
            return 0
        except BrokenPipeError:
            self.close()
            return 0

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready.clear()
        loop.add_writer(self._descriptor, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            if not self.closed:
                loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """The process reads the end of its input."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._ready.set()


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
    return not Path("/proc/self/stat").exists() or any(True for _ in members(group))


def members(group: int) -> Iterator[int]:
    """Yield the processes of a group that are not dead."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        if _runs(status, group):
            yield int(status.parent.name)


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
