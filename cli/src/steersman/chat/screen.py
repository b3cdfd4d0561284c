"""A terminal that is drawn on: final lines are printed, what still moves is drawn below them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from steersman.chat.advice import end_lines
from steersman.chat.blocks import Lines, Rows, to_rows
from steersman.chat.output import plain_text
from steersman.chat.painter import Painter
from steersman.chat.words import harmless, shorten
from steersman.client import Interruption, View
from steersman_contracts.chats import PendingRetry, Role, Status
from steersman_contracts.parts import ToolCallPart, ToolResultPart

FRAME_S: Final = 0.08
"""The shortest time between two drawings."""
_SHARE: Final = 6
"""A drawing that took long is followed by a pause of so many times that."""
_TICK_S: Final = 0.12
_WAITING: Final = 3
"""Messages of the queue that are shown."""
_HINT_AFTER_S: Final = 3.0
_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES: Final = "|/-\\"


class Screen:
    """Shows turns on a terminal. Enter it for the time of a turn.

    Args:
        console: The terminal.
        painter: What has been printed on it so far.
        clock: Seconds that only grow.
    """

    def __init__(
        self, console: Console, painter: Painter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._painter = painter
        self._clock = clock
        self._area = Lines([])
        self._live = self._new_live()
        self._frames = _ASCII_FRAMES if console.options.ascii_only else _FRAMES
        self._view: View | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._started_at = clock()
        self._lost: tuple[Interruption, float] | None = None
        self._interrupting = False
        self._retry_from: tuple[PendingRetry | None, float] = (None, 0.0)

    def __enter__(self) -> Self:
        self._started_at = self._clock()
        self._interrupting, self._lost, self._view = False, None, None
        self._area = Lines([])
        self._live = self._new_live()
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._live.stop()

    def _new_live(self) -> Live:
        return Live(
            self._area,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    # -- what it is told -------------------------------------------------------------------------

    def skip(self, message_id: int) -> None:
        """See `Output`."""
        self._painter.skip(message_id)

    def skip_before(self, message_id: int) -> None:
        """See `Output`."""
        self._painter.skip_before(message_id)

    def show(self, view: View) -> None:
        """Draw the view soon; many changes in a short time are drawn at once."""
        self._view = view
        self._draw_in(0.0)

    def interrupted(self, interruption: Interruption) -> None:
        """Say so until events arrive again."""
        self._lost = (interruption, self._clock() + interruption.retry_in_s)
        self._draw_in(0.0)

    def connected(self) -> None:
        """Events arrive again."""
        if self._lost is not None:
            self._lost = None
            self._draw_in(0.0)

    def interrupting(self) -> None:
        """Say so until the turn has ended."""
        self._interrupting = True
        self._draw_in(0.0)

    def end(self, view: View) -> None:
        """Print all that is left, and how it ended."""
        self._view = view
        painted = self._painter.paint(view)
        for line in end_lines(view, self._painter.marks):
            self._painter.note(line.text, line.style, line.mark)
        # What was streamed and not stored stays readable: somebody stopped watching in the middle.
        self._print([*painted.rows, *painted.live, *self._painter.paint(view).rows], [])

    def error(self, text: str) -> None:
        """Print a line at once."""
        self._print(to_rows(self._console, Text(f"{self._painter.marks.failed} {text}", "red")), [])

    # -- drawing ---------------------------------------------------------------------------------

    def _draw_in(self, wait_s: float) -> None:
        now = self._clock()
        if self._timer is not None:
            if wait_s:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(wait_s, self._next_at - now), self.draw)

    def draw(self) -> None:
        """Draw now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = self._clock()
        live: Rows = []
        rows: Rows = []
        if self._view is not None:
            rows, live = self._painter.paint(self._view)
        status = self._status(streaming=bool(live))
        height = max(3, self._console.size.height - 2)
        live = live[-(height - len(status)) :]
        if status and (live or rows):
            live = [*live, []]
        self._print(rows, [*live, *status])
        took = self._clock() - began
        self._next_at = began + max(FRAME_S, took * _SHARE)
        if status:  # something in it moves
            self._draw_in(_TICK_S)

    def _print(self, rows: Rows, live: Rows) -> None:
        self._area.rows = live
        if rows:
            # One write: what was drawn is erased, the lines come, and the rest is drawn again.
            self._console.print(Lines(rows), end="")
        else:
            self._live.refresh()

    def _status(self, *, streaming: bool) -> Rows:
        words = self._words(streaming=streaming)
        if words is None:
            return []
        elapsed = self._clock() - self._started_at
        frame = self._frames[int(elapsed / _TICK_S) % len(self._frames)]
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{frame} ", "cyan")
        line.append(words, "dim")
        if elapsed > _HINT_AFTER_S and not self._interrupting:
            line.append(f"  {elapsed:.0f} s, Ctrl-C interrupts", "dim")
        return [*to_rows(self._console, line), *self._progress(), *self._waiting()]

    def _words(self, *, streaming: bool) -> str | None:
        view = self._view
        if self._lost is not None:
            interruption, again_at = self._lost
            wait_s = max(0.0, again_at - self._clock())
            return f"connection lost ({harmless(interruption.reason)}), again in {wait_s:.0f} s"
        if self._interrupting:
            return "interrupting; Ctrl-C again leaves"
        if view is None:
            return "connecting"
        if view.resting:
            return None
        if view.status is Status.INTERRUPTING:
            return "interrupting"
        if view.retry is not None:
            return self._countdown(view)
        if view.compacting:
            return "summarising what came before"
        if view.preview_lost:
            return "answering; it is shown once it is complete"
        if streaming:
            return None
        tools = _running_tools(view)
        return f"running {', '.join(tools)}" if tools else "thinking"

    def _countdown(self, view: View) -> str:
        retry = view.retry
        assert retry is not None  # the caller looked
        counted, began = self._retry_from
        if counted != retry:
            # Counted by this clock: the server's may be another one.
            began = self._clock()
            self._retry_from = (retry, began)
        left_s = max(0.0, began + retry.delay_ms / 1000 - self._clock())
        return f"trying again in {left_s:.0f} s"

    def _progress(self) -> Rows:
        view = self._view
        if view is None or view.resting:
            return []
        width = max(10, self._console.width - 4)
        rows: Rows = []
        for text in view.progress.values():
            last = (harmless(text).strip().splitlines() or [""])[-1]
            rows += to_rows(self._console, Text(f"  {shorten(last, width)}", "dim", no_wrap=True))
        return rows

    def _waiting(self) -> Rows:
        """What waits in the queue, next first."""
        view = self._view
        if view is None or view.resting:
            return []
        marks = self._painter.marks
        width = max(10, self._console.width - 6)
        texts = [" ".join(harmless(plain_text(queued.parts)).split()) for queued in view.queue]
        lines = [f"  {marks.waits} {shorten(text, width, marks.more)}" for text in texts[:_WAITING]]
        if len(texts) > _WAITING:
            lines.append(f"  {marks.more} {len(texts) - _WAITING} more")
        return [
            row
            for line in lines
            for row in to_rows(self._console, Text(line, "dim", no_wrap=True, overflow="ellipsis"))
        ]


def _running_tools(view: View) -> list[str]:
    """The tools that the last step called and that have not answered."""
    calls: dict[str, str] = {}
    for message in reversed(view.messages):
        if message.role is Role.USER:
            break
        for part in message.parts:
            if isinstance(part, ToolCallPart) and not part.provider_executed:
                calls.setdefault(part.call_id, harmless(part.tool))
            elif isinstance(part, ToolResultPart):
                calls[part.call_id] = ""
    return [tool for tool in calls.values() if tool]
