"""Watching one turn from a terminal: Ctrl-C ends the turn, twice leaves it alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from steersman.chat.advice import INTERRUPTED, exit_code, failure
from steersman.chat.conversation import Conversation
from steersman.chat.output import Output
from steersman.client import ClientError

LEAVE_WITHIN_S: Final = 2.0
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class _Signals:
    """Turns signals into an interrupt of the turn, or the end of the watching."""

    def __init__(
        self, conversation: Conversation, output: Output, watching: asyncio.Task[None]
    ) -> None:
        self._conversation = conversation
        self._output = output
        self._watching = watching
        self._loop = asyncio.get_running_loop()
        self._pressed_at: float | None = None
        self._interrupting: set[asyncio.Task[None]] = set()
        self.ended_by: int | None = None

    @contextmanager
    def installed(self) -> Generator[None]:
        """Handle signals while the block runs."""
        self._loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        for number in _ENDING:
            self._loop.add_signal_handler(number, self._leave, 128 + number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, *_ENDING):
                self._loop.remove_signal_handler(number)
            for task in self._interrupting:
                task.cancel()

    def _on_interrupt(self) -> None:
        now = self._loop.time()
        if self._pressed_at is not None and now - self._pressed_at <= LEAVE_WITHIN_S:
            self._leave(INTERRUPTED)
            return
        self._pressed_at = now
        self._output.interrupting()
        task = self._loop.create_task(self._interrupt(), name="chat.interrupt")
        self._interrupting.add(task)
        task.add_done_callback(self._interrupting.discard)

    async def _interrupt(self) -> None:
        try:
            await self._conversation.client.interrupt(self._conversation.chat_id)
        except ClientError as error:
            self._output.error(f"the turn could not be interrupted: {failure(error).text}")

    def _leave(self, code: int) -> None:
        self.ended_by = code
        self._watching.cancel()


async def watch(conversation: Conversation, output: Output) -> int:
    """Show the turn until the chat rests, or somebody leaves. Returns the exit code.

    Raises:
        ClientError: The chat cannot be watched any more.
    """
    watching = asyncio.create_task(conversation.follow(output), name="chat.follow")
    signals = _Signals(conversation, output, watching)
    with signals.installed(), output:
        try:
            await asyncio.wait([watching])
        except asyncio.CancelledError:  # the whole program ends
            watching.cancel()
            await asyncio.wait([watching])
            raise
        output.end(conversation.view)
    if watching.cancelled():
        conversation.left = True
        return signals.ended_by or INTERRUPTED
    watching.result()
    return exit_code(conversation.view)
