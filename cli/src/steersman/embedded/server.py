"""Run one embedded part outside the supervisor: for tests, and for `steersman migrate`."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from steersman.command import Command, spawn
from steersman.embedded.socket_link import remove_link

_POLL_S = 0.01


_MEMORY: Final = Path("/dev/shm")
_ENOUGH: Final = 1 << 30
_NEW_S: Final = 60.0


class NotStarted(RuntimeError):
    """A part ended or stayed silent instead of becoming ready; the text carries its last output."""


class EmbeddedServer:
    """A process with a directory, started and stopped from plain or from async code.

    Use it as a context manager of either kind. Without `home` it lives in a temporary directory,
    which goes away with it.
    """

    name = "part"

    def __init__(self, home: Path | None = None, *, start_timeout_s: float = 60.0) -> None:
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stop_signal = signal.SIGTERM
        self._discard_home: Callable[[], object] | None = None
        self.home = home or Path()

    def start(self) -> None:
        """Start and return when it is ready."""
        self._prepare_home()
        self._spawn(self.plan())
        deadline = time.monotonic() + self._start_timeout_s
        try:
            while not self._check(deadline):
                time.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise

    async def start_async(self) -> None:
        """`start` without blocking the loop, except for the fork itself."""
        self._prepare_home()
        self._spawn(await asyncio.to_thread(self.plan))
        deadline = time.monotonic() + self._start_timeout_s
        try:
            while not self._check(deadline):  # noqa: ASYNC110 - another process; nothing to await
                await asyncio.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it in an orderly way; what it stored stays for `start`."""
        process = self._process
        if process is None:
            return
        process.send_signal(self._stop_signal)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, no goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start again on the same data and at the same address, whatever state it is in."""
        self.stop()
        self.start()

    async def restart_async(self) -> None:
        """`restart` without blocking the loop."""
        await asyncio.to_thread(self.stop)
        await self.start_async()

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise NotStarted(f"{self.name} is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written so far, over all its starts."""
        path = self.home / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def plan(self) -> Command:
        """Prepare the directory and say how to start."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether the running process answers."""
        raise NotImplementedError

    def _prepare_home(self) -> None:
        if self._process is not None:
            raise RuntimeError(f"{self.name} is running already")
        if self.home == Path():
            self._own_temporary_home()
        self.home.mkdir(parents=True, exist_ok=True)

    def _own_temporary_home(self) -> None:
        """Make a directory and hold it, after removing those whose holders were killed."""
        prefix = f"steersman-{self.name}-"
        self.home = Path(tempfile.mkdtemp(prefix=prefix, dir=memory()))
        # Also without an orderly end: when nobody refers to us any more, and when Python exits.
        self._discard_home = weakref.finalize(self, _remove, self.home, _hold(self.home))
        for other in self.home.parent.glob(f"{prefix}*"):
            if _is_old(other) and (hold := _hold(other)) is not None:
                _remove(other, hold)

    def _spawn(self, command: Command) -> None:
        self._stop_signal = command.stop_signal
        with (self.home / f"{self.name}.log").open("ab") as log:
            self._process = spawn(command, log)

    def _check(self, deadline: float) -> bool:
        if self._process is not None and self._process.poll() is not None:
            code = self._process.returncode
            raise NotStarted(f"{self.name} ended with {code}:\n{self.log[-4000:]}")
        if self.is_ready():
            return True
        if time.monotonic() > deadline:
            raise NotStarted(f"{self.name} was not ready in time:\n{self.log[-4000:]}")
        return False

    def _discard(self) -> None:
        if self._discard_home is not None:
            self._discard_home()
            self._discard_home = None
            self.home = Path()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._discard()

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)
        self._discard()


def _hold(home: Path) -> int | None:
    """Lock a directory for as long as this process lives; None if another process does."""
    try:
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # gone, or not ours
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_old(home: Path) -> bool:
    # One that was made this instant is not held yet.
    try:
        return time.time() - home.stat().st_mtime > _NEW_S
    except OSError:
        return False


def _remove(home: Path, hold: int | None) -> None:
    remove_link(home)
    shutil.rmtree(home, ignore_errors=True)
    if hold is not None:
        os.close(hold)


def memory() -> Path | None:
    """A file system in memory, if there is one of a useful size: most of a start is writing."""
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH:
        return _MEMORY
    return None
