"""Processes that the benchmark starts; none of them outlives it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
_STOP_S: Final = 40.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class Child:
    """One process. Its output goes to a file."""

    def __init__(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str], stdout: int | None = None
    ) -> None:
        self.argv = argv
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                argv,
                cwd=REPOSITORY,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the benchmark alone
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdout(self) -> IO[bytes]:
        if self.popen.stdout is None:
            raise RuntimeError("the output of this process goes to a file")
        return self.popen.stdout

    async def stop(self) -> None:
        """Ask it to end, and make it end when it does not."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            await asyncio.to_thread(self.popen.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            await asyncio.to_thread(self.popen.wait)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def clean_environment() -> dict[str, str]:
    """Ours, without what would lead requests astray or add providers and databases."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith(("_PROXY", "_API_KEY"))
        and not name.startswith(("STEERSMAN_", "OPENAI_"))
    }
