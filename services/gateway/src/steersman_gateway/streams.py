"""All open streams of this process: their limits, their clock, their end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from prometheus_client import Gauge

from steersman_contracts.errors import (
    DeadlineExceeded,
    SteersmanError,
    TooManyRequests,
    Unavailable,
)
from steersman_contracts.ids import UserId
from steersman_gateway.feeds import Feeds
from steersman_gateway.settings import Settings
from steersman_gateway.viewers import Viewer
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

OPEN: Final = Gauge("steersman_gateway_streams", "Open event streams")
_MAX_RECHECKS: Final = 16


class OpenStream:
    """A viewer and what the clock needs to know about it."""

    __slots__ = ("drop", "may_see", "rechecked_at", "viewer")

    def __init__(
        self,
        viewer: Viewer,
        may_see: Callable[[], Awaitable[None]],
        drop: Callable[[], None],
    ) -> None:
        self.viewer = viewer
        self.may_see = may_see
        """Raises when the user has lost the right to watch."""
        self.drop = drop
        """Ends the connection without another write."""
        self.rechecked_at = viewer.written_at


class Streams:
    """The open streams."""

    def __init__(self, feeds: Feeds, settings: Settings) -> None:
        self.feeds = feeds
        self._settings = settings
        self._open: set[OpenStream] = set()
        self._per_user: Counter[UserId] = Counter()
        self._count = 0
        self._rechecks = TaskGroup("streams.recheck")
        self._stopping = False

    def take_place(self, user_id: UserId) -> None:
        """Take one of the places for streams, to be given back.

        Raises:
            TooManyRequests: There is none left, for this user or in this process.
            Unavailable: The process is about to end.
        """
        if self._stopping:
            raise Unavailable("this gateway is shutting down")
        mine, limit = self._per_user[user_id], self._settings.max_streams_per_user
        if mine >= limit:
            raise TooManyRequests("too many open event streams of one user", maximum=limit)
        if self._count >= self._settings.max_streams:
            raise TooManyRequests(
                "too many open event streams in this process", maximum=self._settings.max_streams
            )
        self._count += 1
        self._per_user[user_id] += 1

    def give_place(self, user_id: UserId) -> None:
        """Give a place back."""
        self._count -= 1
        self._per_user[user_id] -= 1
        if not self._per_user[user_id]:
            del self._per_user[user_id]

    def add(self, stream: OpenStream) -> None:
        """Keep an eye on a stream, until it is removed."""
        self._open.add(stream)
        OPEN.inc()
        if self._stopping:
            stream.viewer.end()

    def remove(self, stream: OpenStream) -> None:
        """The stream has ended."""
        self._open.discard(stream)
        OPEN.dec()

    def stop(self) -> None:
        """End every stream at once: the clients go on elsewhere."""
        self._stopping = True
        for stream in self._open:
            stream.viewer.end()

    async def run(self) -> None:
        """Be the clock of all streams: a timer for each would cost more than the stream itself."""
        settings = self._settings
        shortest = min(settings.ping_interval_s, settings.write_timeout_s, settings.silence_s)
        while True:
            await asyncio.sleep(min(1.0, shortest / 4))
            self.tick(asyncio.get_running_loop().time())
            await self.feeds.check_silent(settings.silence_s)

    def tick(self, now: float) -> None:
        """Look at every stream once."""
        settings = self._settings
        for stream in self._open:
            viewer = stream.viewer
            if viewer.writing_since is not None:
                if now - viewer.writing_since >= settings.write_timeout_s:
                    log.info("stream.stalled", subject=viewer.feed.topic.subject)
                    viewer.end()
                    stream.drop()
            elif now - viewer.written_at >= settings.ping_interval_s:
                viewer.ping()
            if now - stream.rechecked_at >= settings.recheck_interval_s:
                if len(self._rechecks) >= _MAX_RECHECKS:
                    continue  # the next tick takes it
                stream.rechecked_at = now
                self._rechecks.start(_recheck(stream), name="stream.recheck")

    async def close(self) -> None:
        """Leave nothing running."""
        self.stop()
        await self._rechecks.cancel()
        await self.feeds.tasks.cancel()


async def _recheck(stream: OpenStream) -> None:
    try:
        await stream.may_see()
    except (Unavailable, DeadlineExceeded):
        pass  # nothing was learned; asked again a minute later
    except SteersmanError as error:
        log.info("stream.revoked", subject=stream.viewer.feed.topic.subject, error_code=error.code)
        stream.viewer.end()


def dropper(scope: Any) -> Callable[[], None]:
    """How to end the connection of a request that is stuck in a write."""
    transport: asyncio.Transport | None = scope["state"].get("transport")
    task = asyncio.current_task()

    def drop() -> None:
        if transport is not None:
            transport.abort()
        elif task is not None:
            task.cancel()

    return drop
