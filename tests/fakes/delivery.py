"""Writing one response: at full speed or paced, with gates and faults on the way."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final, Protocol

from fakes.script import Plan

LAST_CHUNK: Final = b"0\r\n\r\n"


class Connection(Protocol):
    """What a delivery needs of its HTTP connection."""

    @property
    def writable(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def finished(self) -> None:
        """The response is complete; the connection may serve the next request."""
        ...

    def close(self, *, reset: bool) -> None: ...


class Pacer:
    """One timer for all paced streams: everything due within a millisecond goes out together."""

    SLACK_S: Final = 0.001

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def time(self) -> float:
        return self._loop.time()

    def add(self, due: float, delivery: Delivery) -> None:
        heapq.heappush(self._due, (due, next(self._order), delivery))
        if self._timer is None or due < self._timer_at:
            self._arm(due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        due = self._due
        until = self._loop.time() + self.SLACK_S
        # Whatever is pushed meanwhile is due later; a bound keeps the loop alive if it is not.
        for _ in range(len(due)):
            if not due or due[0][0] > until:
                break
            heapq.heappop(due)[2].run()
        if due and self._timer is None:
            self._arm(due[0][0])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()


# Runs where a stream stops on its way. Returns True to go on at once; otherwise it has parked or
# ended the delivery.
Action = Callable[["Delivery"], bool]


class Delivery:
    """One response on its way. `stops` are actions by the number of frames written before them."""

    __slots__ = (
        "_at",
        "_connection",
        "_crlf",
        "_delayed",
        "_due",
        "_ended",
        "_frames",
        "_head",
        "_on_end",
        "_pacer",
        "_parked",
        "_plan",
        "_stop_at",
        "_stops",
        "_tiny",
        "_waiting",
    )

    def __init__(
        self,
        plan: Plan,
        connection: Connection,
        pacer: Pacer,
        *,
        head: bytes,
        stops: dict[int, list[Action]],
        on_end: Callable[[Delivery], None],
        crlf: bool = False,
        tiny: bool = False,
    ) -> None:
        self._plan = plan
        self._frames = plan.frames
        self._connection = connection
        self._pacer = pacer
        self._head = head
        self._stops = stops
        self._stop_at = min(stops, default=-1)
        self._on_end = on_end
        self._crlf = crlf
        self._tiny = tiny
        self._at = 0
        self._due = pacer.time()
        self._delayed = -1
        self._parked = False
        self._waiting = False
        self._ended = False

    @property
    def frames_sent(self) -> int:
        return self._at

    @property
    def is_parked(self) -> bool:
        return self._parked

    @property
    def is_ended(self) -> bool:
        return self._ended

    def run(self) -> None:
        """Write what may be written now."""
        self._waiting = False
        self.go()

    def go(self) -> None:
        if self._ended or self._parked or self._waiting or not self._connection.writable:
            return
        delays = self._plan.delays
        frames = self._frames
        start = at = self._at
        end = len(frames)
        while True:
            if at == self._stop_at:
                self._flush(start, at)
                start = at
                if not self._stop():
                    return
                continue
            if at >= end:
                break
            if delays and at in delays and at != self._delayed:
                self._due += delays[at]
                self._delayed = at
                if self._due > self._pacer.time():
                    self._flush(start, at)
                    self._waiting = True
                    self._pacer.add(self._due, self)
                    return
            at += 1
        self._flush(start, at, last=True)
        self.end()

    def _stop(self) -> bool:
        actions = self._stops[self._at]
        action = actions.pop(0)
        if not actions:
            del self._stops[self._at]
            self._stop_at = min(self._stops, default=-1)
        return action(self)

    def _flush(self, start: int, at: int, *, last: bool = False) -> None:
        self._at = at
        body = self._chunk(b"".join(self._frames[start:at])) if at > start else b""
        out = self._head + body + (LAST_CHUNK if last else b"")
        self._head = b""
        if out:
            self._connection.write(out)

    def _chunk(self, data: bytes) -> bytes:
        if self._crlf:
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self._tiny:
            return b"".join(b"1\r\n%c\r\n" % byte for byte in data)
        return b"%x\r\n%b\r\n" % (len(data), data)

    # What actions may do.

    def insert(self, frame: bytes) -> None:
        """Write something that is not a frame of the plan."""
        self._connection.write(self._head + self._chunk(frame))
        self._head = b""

    def insert_part_of_next(self) -> None:
        if self._at < len(self._frames):
            frame = self._frames[self._at]
            self.insert(frame[: max(1, len(frame) // 2)])

    def wait(self, seconds: float) -> None:
        """Silence; whatever is paced shifts by it."""
        self._due = max(self._due, self._pacer.time()) + seconds
        self._waiting = True
        self._pacer.add(self._due, self)

    def park(self) -> None:
        """Silence until `unpark`."""
        self._parked = True

    def unpark(self) -> None:
        if self._parked:
            self._parked = False
            self._due = self._pacer.time()
            self.go()

    def end(self) -> None:
        """The response is complete as far as HTTP knows."""
        if not self._ended:
            self._ended = True
            self._on_end(self)
            self._connection.finished()

    def end_early(self) -> None:
        self._connection.write(self._head + LAST_CHUNK)
        self._head = b""
        self.end()

    def cut(self, *, reset: bool) -> None:
        self._ended = True
        self._on_end(self)
        self._connection.close(reset=reset)

    def abandon(self) -> None:
        """The client is gone."""
        if not self._ended:
            self._ended = True
            self._on_end(self)
