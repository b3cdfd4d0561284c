"""Commands of the service itself in a workspace: set-up scripts, and git.

They are confined as the commands of models are: a workspace holds what a stranger has written.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from steersman_contracts.commands import before_exec, environment, offer_to_the_oom_killer
from steersman_contracts.errors import Unavailable
from steersman_contracts.sandbox import Owner, Sandbox, SandboxMissing, user_of_commands

_READ: Final = 64 << 10
_DRAIN_S: Final = 0.25
_SHELL: Final = "/bin/sh"


@dataclass(slots=True)
class Output:
    """What a command has printed: its beginning, and its end."""

    head_bytes: int
    tail_bytes: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, data: bytes) -> None:
        """Take more."""
        room = self.head_bytes - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        if (over := len(self.tail) - self.tail_bytes) > 0:
            self.dropped += over
            del self.tail[:over]

    @property
    def text(self) -> str:
        """All of it, or what is left around a word about what is not."""
        head, tail = (bytes(part).decode(errors="replace") for part in (self.head, self.tail))
        gap = f"\n[… {self.dropped} bytes left out …]\n" if self.dropped else ""
        return f"{head}{gap}{tail}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    """128 + n after signal n."""
    output: Output
    timed_out: bool = False
    cut_off: bool = False
    """It printed more than was wanted, and was ended."""


async def run_confined(
    argv: Sequence[str],
    workspace: Path,
    sandbox: Sandbox,
    *,
    timeout_s: float,
    output: Output,
    variables: Mapping[str, str] | None = None,
    readable: Sequence[Path] = (),
    on_output: Callable[[Output], None] = lambda _: None,
    end_when_full: bool = False,
) -> Ended:
    """Run a command in a workspace, with nothing to read. Cancelling kills all of it.

    Args:
        argv: The program by its full path, and its arguments.
        workspace: Where it starts, and all that it may change.
        sandbox: What confines it.
        timeout_s: Seconds after which it is killed.
        output: Takes what it prints, both streams as one.
        variables: What it sees beside what all commands see.
        readable: What else it may read.
        on_output: Called after each piece of output.
        end_when_full: Kill it once it has printed more than `output` holds without a gap.

    Raises:
        Unavailable: It cannot be started; the message says why.
    """
    popen, reading = await _start(argv, workspace, sandbox, variables or {}, readable)
    running = _Running(popen, reading, output, on_output, end_when_full=end_when_full)
    timed_out = False
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await running.exited.wait()
        except TimeoutError:
            timed_out = True
        else:
            with suppress(TimeoutError):  # what it left behind may hold its output open
                async with asyncio.timeout(_DRAIN_S):
                    await running.drained.wait()
    finally:
        await running.end()
    code = popen.returncode
    return Ended(128 - code if code < 0 else code, output, timed_out, running.cut_off)


async def _start(
    argv: Sequence[str],
    workspace: Path,
    sandbox: Sandbox,
    variables: Mapping[str, str],
    readable: Sequence[Path],
) -> tuple[subprocess.Popen[bytes], int]:
    try:
        status = await asyncio.to_thread(workspace.stat)
        identity = user_of_commands(os.geteuid(), status)
        wrapped = await asyncio.to_thread(
            sandbox.wrap,
            argv,
            workspace=workspace,
            workdir=workspace,
            owner=identity or Owner(os.geteuid(), os.getegid()),
            readable=readable,
        )
        directory = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        reading, writing = os.pipe()
    except SandboxMissing as missing:
        raise Unavailable(f"commands cannot be run: {missing}") from missing
    except OSError as error:
        raise Unavailable(f"the workspace cannot be used: {error.strerror}") from error
    try:
        popen = _spawn(wrapped, workspace, sandbox, variables, identity, directory, writing)
    except (OSError, subprocess.SubprocessError) as error:
        os.close(reading)
        raise Unavailable(f"the command cannot be started: {error}") from error
    finally:
        os.close(writing)
        os.close(directory)
    offer_to_the_oom_killer(popen.pid)
    return popen, reading


def _spawn(
    argv: Sequence[str],
    workspace: Path,
    sandbox: Sandbox,
    variables: Mapping[str, str],
    identity: Owner | None,
    directory: int,
    output: int,
) -> subprocess.Popen[bytes]:
    # Not in another thread: see `before_exec`. And not by asyncio: uvloop knows no `user`.
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**environment(os.environ, workspace, _SHELL), **variables},
        start_new_session=True,
        umask=0o022,
        user=identity and identity.uid,
        group=identity and identity.gid,
        extra_groups=None if identity is None else [],
        preexec_fn=before_exec(
            directory, sandbox.limits, dropped=identity is not None, isolated=sandbox.isolates
        ),
    )


class _Running:
    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        reading: int,
        output: Output,
        on_output: Callable[[Output], None],
        *,
        end_when_full: bool,
    ) -> None:
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self.cut_off = False
        self._popen = popen
        self._reading = reading
        self._output = output
        self._on_output = on_output
        self._end_when_full = end_when_full
        self._loop = asyncio.get_running_loop()
        os.set_blocking(reading, False)
        self._loop.add_reader(reading, self._read)
        # One thread for each: there are few of these commands, and each ends in good time.
        threading.Thread(target=self._wait, name=f"wait-{popen.pid}", daemon=True).start()

    async def end(self) -> None:
        """Kill whatever of it is left, and let go of it."""
        self._kill()
        await self.exited.wait()
        self._close()

    def _wait(self) -> None:
        self._popen.wait()
        with suppress(RuntimeError):  # the loop has ended before it
            self._loop.call_soon_threadsafe(self.exited.set)

    def _kill(self) -> None:
        # The leader may be gone and its group not: as long as one of it lives the number is taken.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _read(self) -> None:
        try:
            data = os.read(self._reading, _READ)
        except BlockingIOError:
            return
        if not data:
            self._close()
            return
        self._output.add(data)
        self._on_output(self._output)
        if self._end_when_full and self._output.dropped:
            self.cut_off = True
            self._kill()
            self._close()

    def _close(self) -> None:
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
        self.drained.set()
