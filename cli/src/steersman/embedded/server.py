"""Run one embedded part outside the supervisor: for tests, and for `steersman migrate`."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from steersman.command import Command, spawn

_POLL_S = 0.01


class NotStarted(RuntimeError):
    """A part ended or stayed silent instead of becoming ready; the text carries its last output."""


class EmbeddedServer:
    """A process with a directory, started and stopped from plain or from async code.

    Use it as a context manager of either kind. Without `home` it lives in a temporary directory,
    which goes away with it.
    """

    name = "part"

    def __init__(self, home: Path | None = None, *, start_timeout_s: float = 30.0) -> None:
        self._temporary = home is None
        self._given = home
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
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
            while not self._check(deadline):
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
            self.home = Path(tempfile.mkdtemp(prefix=f"steersman-{self.name}-"))
        self.home.mkdir(parents=True, exist_ok=True)

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
        if self._temporary and self.home != Path():
            shutil.rmtree(self.home, ignore_errors=True)
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
