"""One viewer: a bounded mailbox, and the loop that empties it into a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

from prometheus_client import Counter

from steersman_contracts.errors import DeadlineExceeded, Unavailable
from steersman_gateway.event_log import Entry
from steersman_gateway.feeds import LAG_TRIES, Feed, GapReason
from steersman_gateway.frames import PING, Frame, Wanted, frame, position

MAX_FRAMES: Final = 256
MAX_BYTES: Final = 2**20

OVERFLOWS: Final = Counter("steersman_gateway_overflows", "Times a slow viewer's mailbox ran over")

Write: TypeAlias = Callable[[bytes], Awaitable[None]]
Begin: TypeAlias = Callable[[GapReason, int], Awaitable[tuple[bytes, int]]]
"""Given why and from where, the bytes that a viewer begins anew with, and its new position."""


class Mailbox:
    """What waits to be written to one viewer, in order and bounded.

    A mailbox that runs over is emptied and no longer `live`: the viewer is then served from the
    log, at its own speed, until it has caught up.
    """

    __slots__ = (
        "_frames",
        "_newest",
        "_size",
        "live",
        "max_frames",
        "position",
        "sent",
        "told",
        "wanted",
    )

    def __init__(self, wanted: Wanted, position: int) -> None:
        self.wanted = wanted
        self.sent = position
        """The newest event that was given to the connection, or was not wanted."""
        self.position = position
        """The newest event that was offered and taken."""
        self.told = position
        """The newest event whose id was given to the connection."""
        self.live = False
        self.max_frames = MAX_FRAMES
        self._frames: list[bytes] = []
        self._newest = position
        self._size = 0

    def offer(self, item: Frame) -> bool:
        """Take an event; says whether there is something to do for the writer."""
        if not self.live or item.seq <= self.position:
            return False
        self.position = item.seq
        if item.name in self.wanted:
            self._newest = item.seq
            self._frames.append(item.data)
            self._size += len(item.data)
            if len(self._frames) > self.max_frames or self._size > MAX_BYTES:
                OVERFLOWS.inc()
                self._drop()
        elif not self._frames:
            self.sent = item.seq
        return bool(self._frames) or not self.live

    def _drop(self) -> None:
        self._frames.clear()
        self._size = 0
        self.position = self.sent
        self.live = False

    def take(self) -> bytes:
        """Everything that waits, to be written at once."""
        frames = self._frames
        if not frames:
            self.sent = self.position
            return b""
        self.told = self._newest
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        self._size = 0
        self.sent = self.position
        return data

    def accept(self, entries: Iterable[Entry], epoch: str) -> bytes:
        """Take events from the log; returns what of them is to be written."""
        chosen: list[bytes] = []
        for entry in entries:
            if entry.seq > self.sent:
                self.sent = self.position = entry.seq
                if entry.name in self.wanted:
                    self.told = entry.seq
                    chosen.append(frame(epoch, entry).data)
        return b"".join(chosen)

    def begin(self, position: int) -> None:
        """Everything up to `position` is known in another way."""
        self._drop()
        self.sent = self.position = self.told = position


class Viewer:
    """One open stream."""

    def __init__(
        self, feed: Feed, wanted: Wanted, position: int, *, write: Write, begin: Begin
    ) -> None:
        self.feed = feed
        self.box = Mailbox(wanted, position)
        self._write_bytes = write
        self._begin = begin
        self._woken = False
        self._waiting: asyncio.Future[None] | None = None
        self._restart: GapReason | None = None
        self._restarts = 0
        self._ping = False
        self._last_event_seen = False
        self.ended = False
        self.writing_since: float | None = None
        self.written_at = asyncio.get_running_loop().time()

    # -- called by the feed and the clock --------------------------------------------------------

    def offer(self, item: Frame) -> None:
        """Take the next event."""
        box = self.box
        last = box.live and item.name == self.feed.topic.ends
        if box.offer(item) or last:
            # If it made the mailbox run over, it is read from the log.
            self._last_event_seen |= last and box.live
            self._wake()

    def start_over(self, reason: GapReason) -> None:
        """The log is another one: a snapshot comes before anything else."""
        self._restart = reason
        self._restarts += 1
        self.box.live = False
        self._wake()

    def ping(self) -> None:
        """Write a comment when there is nothing else to write."""
        self._ping = True
        self._wake()

    def end(self) -> None:
        """Finish the stream as soon as possible."""
        self.ended = True
        self._wake()

    # An `asyncio.Event` would do, and weigh 1 kB; most viewers wait most of the time.

    def _wake(self) -> None:
        self._woken = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _wait(self) -> None:
        if not self._woken:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
            self._waiting = None
        self._woken = False

    # -- the writer ------------------------------------------------------------------------------

    async def run(self, first: bytes) -> None:
        """Write until the end of the stream. Raises what `begin` raises."""
        await self._write(first)
        while not self.ended:
            if self._restart is not None:
                await self._begin_anew(self._restart)
            elif not self.box.live:
                await self._catch_up()
            elif data := self.box.take():
                await self._write(data)
            elif self._last_event_seen:
                self.ended = True
            else:
                await self._write_ping()
                await self._wait()

    async def _write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.writing_since = loop.time()
        await self._write_bytes(data)
        self.writing_since = None
        self.written_at = loop.time()
        self._ping = False

    async def _write_ping(self) -> None:
        if not self._ping:
            return
        box = self.box
        if box.sent > box.told and self._restart is None:
            # All between was left out: without this a client that comes back would read it again,
            # or find its position expired.
            box.told = box.sent
            await self._write(PING[:-1] + position(self.feed.epoch, box.sent))
        else:
            await self._write(PING)

    async def _begin_anew(self, reason: GapReason) -> None:
        restarts = self._restarts
        data, position = await self._begin(reason, self.box.sent)
        if restarts != self._restarts:
            return  # and once more, meanwhile
        self._restart = None
        self.box.begin(position)
        await self._write(data)

    async def _catch_up(self) -> None:
        """Write pages of the log until there is nothing that the feed has and this viewer has not.

        Nothing is awaited between that finding and going live, so nothing falls in between.
        """
        tries = 0
        while not self.ended and self._restart is None:
            if self.feed.reached(self.box.sent):
                self.box.live = True
                return
            if tries > LAG_TRIES:
                self.start_over("expired")
                return
            if tries:
                await self.feed.lag()
            try:
                page = await self.feed.read(self.box.sent)
            except (Unavailable, DeadlineExceeded):
                await self._write_ping()
                await self.feed.retry()
                continue
            if self._restart is not None:
                return
            data = self.box.accept(page.entries, self.feed.epoch)
            self._last_event_seen |= any(
                entry.name == self.feed.topic.ends for entry in page.entries
            )
            if data:
                await self._write(data)
            tries = 0 if page.entries else tries + 1
