"""What people see of a process while a call waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from steersman_contracts.hooks import ToolContext
from steersman_plugin_exec.process import Process

PROGRESS_S: Final = 0.25


@contextmanager
def told(context: ToolContext, process: Process) -> Generator[None]:
    """Tell the last line of output while the block runs, at most four times a second."""
    ticker = _Ticker(context, process)
    process.listeners.add(ticker.more)
    try:
        yield
    finally:
        process.listeners.discard(ticker.more)
        ticker.cancel()


class _Ticker:
    def __init__(self, context: ToolContext, process: Process) -> None:
        self._context = context
        self._output = process.output
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._told = ""

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def more(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(self._next, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._next = self._loop.time() + PROGRESS_S
        line = self._output.last_line()
        if line and line != self._told:
            self._told = line
            self._context.progress(line)
