"""One event stream over HTTP, whatever it is about: begin, go on, begin anew, end.

Bytes are written straight to the server: Litestar's own `ServerSentEvent` encodes every frame anew
and makes a thread hop per connection.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, NamedTuple, Protocol

import structlog
from litestar.types import Receive, Scope, Send

from steersman_contracts.errors import BadCursor, SteersmanError
from steersman_contracts.ids import UserId
from steersman_gateway.auth import Authenticator
from steersman_gateway.event_log import Page
from steersman_gateway.feeds import Feed, GapReason
from steersman_gateway.frames import PREAMBLE, Wanted, position
from steersman_gateway.streams import OpenStream, Streams, dropper
from steersman_gateway.topics import Topic
from steersman_gateway.viewers import Mailbox, Viewer

log = structlog.stdlib.get_logger()

_CURSOR: Final = re.compile(r"([0-9a-z]{1,16})\.([0-9]{1,18})")
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Cursor(NamedTuple):
    """Where a reader is in a log."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


class Options(NamedTuple):
    """What a client asks of a stream."""

    cursor: Cursor | None
    snapshot: bool
    wanted: Wanted


def parse_cursor(text: str) -> Cursor:
    """Take a cursor apart.

    Raises:
        BadCursor: It is not `<epoch>.<sequence>`.
    """
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise BadCursor("a cursor is the id of an event: `<epoch>.<sequence>`", field="cursor")
    return Cursor(match[1], int(match[2]))


class Source(Protocol):
    """What a stream is about, for one person."""

    @property
    def topic(self) -> Topic:
        """What of the log it consists of."""
        ...

    async def authorise(self) -> None:
        """Make sure that the person may watch; raises otherwise."""
        ...

    async def sync(self, epoch: str, position: int, head: int, *, snapshot: bool) -> bytes:
        """The frame of a `stream.sync`; with a snapshot it raises what `authorise` does."""
        ...

    def gap(self, reason: GapReason, requested: str) -> bytes:
        """The frame of a `stream.gap`."""
        ...


class EventStream:
    """One stream of one person: an ASGI application for a single exchange."""

    def __init__(
        self,
        source: Source,
        options: Options,
        *,
        user_id: UserId,
        token: str,
        authenticator: Authenticator,
        streams: Streams,
    ) -> None:
        self._source = source
        self._options = options
        self._user_id = user_id
        self._token = token
        self._authenticator = authenticator
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a place, and keep the feed open for as long as it lasts."""
        # Plain calls: context managers of generators would weigh 1 kB in each idle stream.
        self._streams.take_place(self._user_id)
        try:
            feed = self._streams.feeds.open(self._source.topic)
            try:
                await self._serve(feed, scope, receive, send)
            finally:
                self._streams.feeds.release(feed)
        finally:
            self._streams.give_place(self._user_id)

    async def _serve(self, feed: Feed, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin with `stream.sync`, then write until something ends the stream."""
        first, start = await self._first(feed)
        epoch = feed.epoch

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def begin(reason: GapReason, seq: int) -> tuple[bytes, int]:
            nonlocal epoch
            requested, epoch = str(Cursor(epoch, seq)), feed.epoch
            return await self._begin(feed, reason, requested)

        viewer = Viewer(feed, self._options.wanted, start, write=write, begin=begin)
        feed.watchers.add(viewer)
        stream = OpenStream(viewer, self._may_see, dropper(scope))
        self._streams.add(stream)
        watch = asyncio.create_task(_until_gone(receive, viewer), name="stream.disconnect")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await viewer.run(PREAMBLE + first)
        except SteersmanError as error:
            # The snapshot after a gap could not be had: the client comes back and asks again.
            log.info("stream.ended", subject=feed.topic.subject, error_code=error.code)
        finally:
            watch.cancel()
            self._streams.remove(stream)
            feed.watchers.discard(viewer)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _may_see(self) -> None:
        await self._authenticator.identify(self._token)
        await self._source.authorise()

    async def _first(self, feed: Feed) -> tuple[bytes, int]:
        """The bytes to begin with, and the position after them."""
        cursor = self._options.cursor
        if cursor is None:
            if not self._options.snapshot:
                await self._source.authorise()
            return await self._begin(feed, None, "")
        await self._source.authorise()
        head = await feed.position()
        if cursor.epoch != feed.epoch:
            return await self._begin(feed, "epoch", str(cursor))
        found = await feed.resume(cursor.seq)
        if not isinstance(found, Page):
            return await self._begin(feed, found, str(cursor))
        epoch, head = feed.epoch, max(head, cursor.seq)
        box = Mailbox(self._options.wanted, cursor.seq)
        first = await self._source.sync(epoch, cursor.seq, head, snapshot=False)
        first += box.accept(found.entries, epoch)
        if box.sent > box.told:
            first += position(epoch, box.sent)
        return first, box.sent

    async def _begin(
        self, feed: Feed, reason: GapReason | None, requested: str
    ) -> tuple[bytes, int]:
        """Begin with the present: a snapshot, unless none is wanted."""
        while True:
            # The position first: what is stored up to there was committed before, so a snapshot
            # that is taken now has it.
            start = await feed.position()
            epoch = feed.epoch
            sync = await self._source.sync(epoch, start, start, snapshot=self._options.snapshot)
            if epoch == feed.epoch:
                break
        gap = b"" if reason is None else self._source.gap(reason, requested)
        return gap + sync, start


async def _until_gone(receive: Receive, viewer: Viewer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    viewer.end()
