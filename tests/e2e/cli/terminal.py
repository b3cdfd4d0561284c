"""The command on a terminal, or in a pipe."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from unit.cli.vt import Terminal

STEERSMAN = Path(sys.executable).with_name("steersman")
WIDTH, HEIGHT = 100, 40
TIMEOUT_S = 60.0
PROMPT = "\N{HEAVY RIGHT-POINTING ANGLE QUOTATION MARK ORNAMENT}"


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a command sees: nothing of the machine that tests run on."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "PYTHONWARNINGS": "error",
        **more,
    }


async def start(env: Mapping[str, str], *words: str) -> asyncio.subprocess.Process:
    """Start the command in pipes."""
    return await asyncio.create_subprocess_exec(
        STEERSMAN,
        *words,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process, source: str = "") -> Ended:
    """Give it its input and wait for its end."""
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate(source.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(env: Mapping[str, str], *words: str, source: str = "") -> Ended:
    """Run the command in pipes."""
    return await finish(await start(env, *words), source)


class Typist:
    """Somebody at a terminal."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self.process = process
        self.terminal = Terminal(HEIGHT, WIDTH)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody has the other end open any more
            data = b""
        if data:
            self.terminal.feed(self._decoder.decode(data))
        else:
            self._loop.remove_reader(self._master)
        self._changed.set()

    @property
    def seen(self) -> str:
        return self.terminal.text

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    async def until(self, text: str, *, count: int = 1) -> str:
        """Wait until a text stands on the terminal so many times; returns all that does."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while self.seen.count(text) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} did not appear:\n{self.seen}") from None
        return self.seen

    async def end(self) -> int:
        """Wait for the end of the command, and for its last words."""
        async with asyncio.timeout(TIMEOUT_S):
            code = await self.process.wait()
            while self._loop.remove_reader(self._master):
                self._loop.add_reader(self._master, self._read)
                self._changed.clear()
                await self._changed.wait()
        return code

    def close(self) -> None:
        """Hang up."""
        self._loop.remove_reader(self._master)
        os.close(self._master)


@asynccontextmanager
async def terminal(env: Mapping[str, str], *words: str) -> AsyncGenerator[Typist]:
    """Start the command on a terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C then reaches it, as from a keyboard

    process = await asyncio.create_subprocess_exec(
        STEERSMAN,
        *words,
        env=env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(slave)
    typist = Typist(master, process)
    try:
        yield typist
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        typist.close()
