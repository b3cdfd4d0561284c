"""Background tasks that are never lost: each has an owner, and an unexpected end is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

log = structlog.stdlib.get_logger()


class TaskGroup:
    """Tasks that are started one by one and cancelled together.

    Unlike `asyncio.TaskGroup`, one that fails is logged and takes no other with it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(
        self, work: Coroutine[Any, Any, Any], *, name: str | None = None
    ) -> asyncio.Task[Any]:
        """Run `work` in the background until it ends or the group is closed."""
        task = asyncio.get_running_loop().create_task(work, name=name or self._name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", task=task.get_name(), exc_info=error)

    async def finish(self, timeout_s: float) -> bool:
        """Wait until all tasks have ended by themselves.

        Returns:
            Whether they did within `timeout_s`; the rest go on.
        """
        if not self._tasks:
            return True
        _, pending = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        return not pending

    async def cancel(self) -> None:
        """Cancel all tasks and wait for them."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def running(
    work: Callable[[], Coroutine[Any, Any, None]], *, name: str, on_failure: Callable[[], None]
) -> AsyncGenerator[asyncio.Task[None]]:
    """Run `work` in the background for as long as the block lasts.

    Args:
        work: Runs until it is cancelled.
        name: For logs.
        on_failure: Called when it ends before that, after it was logged. A service that has lost
            a part of itself should stop, so that its supervisor starts it anew.
    """

    def done(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        log.error("task.ended_early", task=name, exc_info=task.exception())
        on_failure()

    task = asyncio.get_running_loop().create_task(work(), name=name)
    task.add_done_callback(done)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
