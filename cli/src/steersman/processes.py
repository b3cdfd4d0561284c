"""The supervisor: starts processes, merges their logs, restarts what fell over, ends them all.

Nothing survives it. Each process is tied to ours by the kernel, leads a session of its own whose
other members end with it, and whatever a process leaves behind becomes our child and is ended at
the latest when we stop.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import psutil

from steersman.command import Command, adopt_orphans, spawn, spawned

_MAX_LINE: Final = 64 << 10
_KEPT_LINES: Final = 40
_NOT_STARTED: Final = 126  # as a shell reports it


@dataclass(frozen=True)
class RestartPolicy:
    """When to start a process again that ended on its own."""

    first_s: float = 0.2
    longest_s: float = 10.0
    healthy_after_s: float = 30.0

    def delay_s(self, previous_s: float | None, lived_s: float) -> float:
        """Seconds to wait before the next start; `previous_s` is the wait before the last one."""
        if previous_s is None or lived_s >= self.healthy_after_s:
            return self.first_s
        return min(previous_s * 2, self.longest_s)


class Listener(Protocol):
    """What the supervisor tells others."""

    def line(self, name: str, line: str) -> None:
        """A process wrote a line."""
        ...

    def started(self, name: str, pid: int, starts: int) -> None:
        """A process was started, for the `starts`-th time."""
        ...

    def ended(self, name: str, code: int, again_in_s: float | None) -> None:
        """A process ended that should not have; None means that it is not started again."""
        ...


class Ended(RuntimeError):
    """A process ended before it was ready."""

    def __init__(self, child: "Child", code: int) -> None:
        super().__init__(f"{child.name} {describe_exit(code)}")
        self.child = child
        self.code = code


def describe_exit(code: int) -> str:
    """An exit status in words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


class Child:
    """A process under supervision, over all its starts."""

    def __init__(self, command: Command, stage: int) -> None:
        self.command = command
        self.stage = stage
        self.starts = 0
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.process: subprocess.Popen[bytes] | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.keeper: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """What logs call it."""
        return self.command.name

    @property
    def pid(self) -> int:
        """Of the present process, or of the last one."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self.process.pid

    async def until(
        self, check: Callable[[], bool], timeout_s: float, *, every_s: float = 0.02
    ) -> None:
        """Wait until `check` holds.

        Raises:
            Ended: The process ended first.
            TimeoutError: Neither happened in time.
        """
        async with asyncio.timeout(timeout_s):
            while not check():
                await self.sleep(every_s)

    async def sleep(self, seconds: float) -> None:
        """Wait, unless the process ends meanwhile.

        Raises:
            Ended: It did.
        """
        await asyncio.wait([self.exited], timeout=seconds)
        if self.exited.done():
            raise Ended(self, self.exited.result())


class Supervisor:
    """Use it as an async context manager, on the main thread; leaving it ends every process.

    Restarts begin with `keep_running`: until then, a process that ends is a start that failed,
    and `failed` carries which.
    """

    def __init__(self, listener: Listener, policy: RestartPolicy | None = None) -> None:
        self._listener = listener
        self._policy = policy or RestartPolicy()
        self._children: list[Child] = []
        self._restarting = False
        self._stopping = False
        self.failed: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> "Supervisor":
        adopt_orphans()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _collect_orphans)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        """All processes, in the order in which they were started."""
        return tuple(self._children)

    def start(self, command: Command, *, stage: int) -> Child:
        """Start a process. Higher stages are stopped before lower ones."""
        if self._stopping:
            raise asyncio.CancelledError
        child = Child(command, stage)
        self._children.append(child)
        self._spawn(child)
        child.keeper = asyncio.create_task(self._keep(child))
        return child

    def keep_running(self) -> None:
        """From now on, restart what ends."""
        self._restarting = True

    async def stop(self) -> None:
        """End everything, the latest stage first, each process within its own time."""
        self._stopping = True
        for child in self._children:
            if child.keeper is not None:
                child.keeper.cancel()
        for stage in sorted({child.stage for child in self._children}, reverse=True):
            await asyncio.gather(*(self._end(c) for c in self._children if c.stage == stage))
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        await asyncio.to_thread(_end_strays)

    def kill(self) -> None:
        """End everything this instant, without a goodbye."""
        self._stopping = True
        for child in self._children:
            _signal(child, signal.SIGKILL)
        _end_strays()

    def _spawn(self, child: Child) -> None:
        reading, writing = os.pipe()
        try:
            child.process = spawn(child.command, writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        child.starts += 1
        child.exited = asyncio.get_running_loop().create_future()
        _watch(child.process, child.exited)
        self._read(child, reading)
        self._listener.started(child.name, child.pid, child.starts)

    def _read(self, child: Child, reading: int) -> None:
        def on_line(line: str) -> None:
            child.last_lines.append(line)
            self._listener.line(child.name, line)

        _LineReader(reading, on_line).attach()

    async def _keep(self, child: Child) -> None:
        delay: float | None = None
        while True:
            started = time.monotonic()
            await asyncio.wait([child.exited])  # unlike `await`, leaves it alone when cancelled
            code = child.exited.result()
            if not self._restarting:
                self._listener.ended(child.name, code, None)
                if not self.failed.done():
                    self.failed.set_result(Ended(child, code))
                return
            delay = self._policy.delay_s(delay, time.monotonic() - started)
            self._listener.ended(child.name, code, delay)
            await asyncio.sleep(delay)
            try:
                if child.command.before_restart is not None:
                    await asyncio.to_thread(child.command.before_restart)
                self._spawn(child)
            except (OSError, subprocess.SubprocessError, RuntimeError) as error:
                # No memory or no processes left: it may get better.
                self._listener.line(child.name, f"cannot be started: {error}")
                child.exited = asyncio.get_running_loop().create_future()
                child.exited.set_result(_NOT_STARTED)

    async def _end(self, child: Child) -> None:
        timeout_s = child.command.stop_timeout_s
        _signal(child, child.command.stop_signal)
        await asyncio.wait([child.exited], timeout=timeout_s)
        if not child.exited.done():
            self._listener.line(child.name, f"did not end within {timeout_s:g} s and is killed")
            _signal(child, signal.SIGKILL)
            await child.exited


class _LineReader:
    """Turns a pipe into lines without ever blocking the loop; cuts those without an end."""

    def __init__(self, reading: int, on_line: Callable[[str], None]) -> None:
        os.set_blocking(reading, False)
        self._fd = reading
        self._on_line = on_line
        self._rest = b""
        self._loop = asyncio.get_running_loop()

    def attach(self) -> None:
        self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._fd, _MAX_LINE)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE or (not data and self._rest):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._on_line(line.decode(errors="replace").rstrip())
        if not data:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)


def _watch(process: subprocess.Popen[bytes], exited: asyncio.Future[int]) -> None:
    """Resolve `exited` when the process ends; a thread waits, as the loop has no portable way."""
    loop = asyncio.get_running_loop()

    def resolve(code: int) -> None:
        if not exited.done():
            exited.set_result(code)

    def wait() -> None:
        # Its session goes with it, before its number is free to become somebody else's.
        with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(resolve, code)

    threading.Thread(target=wait, name=f"wait-{process.pid}", daemon=True).start()


def _signal(child: Child, number: signal.Signals) -> None:
    # Not by `Popen.send_signal`, which may collect the process before its watcher does.
    if child.process is not None and child.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.process.pid, number)


def _collect_orphans() -> None:
    """Collect what ended under our adoption; what we started ourselves has its watchers."""
    ours = spawned()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if process.pid not in ours and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)


def _end_strays() -> None:
    """Kill all that is left below us, until nothing is: the dying may still have children."""
    me = psutil.Process()
    for _ in range(50):
        strays = me.children(recursive=True)
        if not strays:
            return
        for stray in strays:
            with contextlib.suppress(psutil.Error):
                stray.kill()
        psutil.wait_procs(strays, timeout=0.5)
