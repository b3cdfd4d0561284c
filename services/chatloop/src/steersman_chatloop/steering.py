"""What others ask of a running turn: an interrupt, the loss of the chat, a hand-over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class LostError(Exception):
    """The chat is no longer ours; nothing may be written any more."""


class Steering:
    """The wishes that have arrived, and the work that they end."""

    def __init__(self) -> None:
        self.interrupted = False
        """A person wants the turn to end; cleared by who saves what was produced."""
        self.lost = False
        self.elsewhere = False
        """Somebody else goes on with the turn, just as it is."""
        self.draining = False
        self.hurried = False
        """The process ends: what runs is not finished, and the store is not waited for."""
        self._work: asyncio.Task[Any] | None = None
        self._stopped = False
        """The work was ended by one of these wishes, which may have been seen to since."""

    def interrupt(self) -> None:
        """A person wants the turn to end; what was produced is kept."""
        self.interrupted = True
        self._stop_work()

    def lose(self, *, elsewhere: bool = False) -> None:
        """The chat belongs to somebody else (then perhaps `elsewhere`), or is gone."""
        self.lost = True
        self.elsewhere = elsewhere
        self._stop_work()

    def drain(self, *, at_once: bool) -> None:
        """Hand the chat over: at the next step, or at once (the running step is then repeated)."""
        self.draining = True
        if at_once:
            self.hurried = True
            self._stop_work()

    @property
    def hands_on(self) -> bool:
        """Whether what was begun is somebody else's to end: a call that runs is left alone."""
        return not self.interrupted and (self.elsewhere or (self.hurried and not self.lost))

    def take_interrupt(self) -> bool:
        """Whether an interrupt is waiting; it is the caller's to see to from here on."""
        wanted, self.interrupted = self.interrupted, False
        return wanted

    def _stop_work(self) -> None:
        if self._work is not None:
            self._stopped = True
            self._work.cancel()

    async def run(self, work: Coroutine[Any, Any, object]) -> bool:
        """Run work that `interrupt`, `lose` and a hurried `drain` end.

        Returns:
            Whether it ran to its end.

        Raises:
            RuntimeError: Something cancelled it that nobody had asked for: to do it again could
                mean to do it for ever.
        """
        if self.interrupted or self.lost or self.hurried:
            work.close()
            return False
        self._stopped = False
        self._work = asyncio.get_running_loop().create_task(work)
        try:
            await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if not self._stopped:
                raise RuntimeError("the work was cancelled, and by nobody") from None
            return False
        finally:
            self._work = None
        return True
