"""`GET /api/v1/chats/{chat_id}/events`: the events of a chat as server-sent events.

Bytes are written straight to the server: Litestar's own `ServerSentEvent` encodes every frame anew
and makes a thread hop per connection.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final, NamedTuple

import structlog
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import HeaderParameter, QueryParameter
from litestar.types import Receive, Scope, Send

from steersman_contracts.chats import ChatSnapshot
from steersman_contracts.errors import BadCursor, SteersmanError
from steersman_contracts.events import StreamGap, StreamSync
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.chats import GET, GetChat
from steersman_gateway.auth import Authenticator, CurrentActor, token_of
from steersman_gateway.backend import Backend
from steersman_gateway.event_log import Page
from steersman_gateway.feeds import Feed, GapReason
from steersman_gateway.frames import NAMES, PREAMBLE, Wanted, notice
from steersman_gateway.ids import ChatInPath
from steersman_gateway.problems import invalid
from steersman_gateway.snapshots import take_snapshot
from steersman_gateway.streams import OpenStream, Streams, dropper
from steersman_gateway.viewers import Mailbox, Viewer

log = structlog.stdlib.get_logger()

CursorText = Annotated[
    str | None, QueryParameter(description="The `id` of the last event that you have.")
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="As `cursor`, and before it: what browsers send when they connect again.",
    ),
]
WithSnapshot = Annotated[
    bool, QueryParameter(description="False: no snapshot, only what happens from now on.")
]
WithDeltas = Annotated[bool, QueryParameter(description="False: without `part.delta`.")]
Types = Annotated[
    str | None,
    QueryParameter(description="Names of events, separated by commas: no others are sent."),
]

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


def parse_types(text: str) -> frozenset[bytes]:
    """The names in a list of names.

    Raises:
        InvalidRequest: There is no event of such a name.
    """
    names = frozenset(filter(None, text.split(",")))
    if unknown := sorted(names - NAMES):
        raise invalid("types", f"there is no event {unknown[0]!r}")
    return frozenset(name.encode() for name in names)


@get(
    "/chats/{chat_id:str}/events",
    operation_id="watchChat",
    summary="Watch a chat",
    tags=["Events"],
    sync_to_thread=False,
)
def watch_chat(
    chat: ChatInPath,
    actor: CurrentActor,
    request: Request[Any, Any, State],
    state: State,
    last_event_id: LastEventId = None,
    cursor: CursorText = None,
    snapshot: WithSnapshot = True,
    deltas: WithDeltas = True,
    types: Types = None,
) -> ChatStream:
    """The events of a chat as server-sent events, from now on or from where you were.

    The first event is `stream.sync`: with a snapshot of the chat, or, given a cursor, without.
    When the cursor cannot be resumed, `stream.gap` comes before it, and a snapshot with it. The
    stream stays open while the chat is idle; a comment keeps it alive. Leaving changes nothing.
    """
    after = last_event_id or cursor
    options = Options(
        None if not after else parse_cursor(after),
        snapshot,
        Wanted(deltas, None if types is None else parse_types(types)),
    )
    service = state.service
    return ChatStream(
        service.backend,
        service.authenticator,
        service.streams,
        actor,
        chat,
        token_of(request),
        options,
    )


class ChatStream:
    """One stream of one person: an ASGI application for a single exchange."""

    def __init__(
        self,
        backend: Backend,
        authenticator: Authenticator,
        streams: Streams,
        actor: Actor,
        chat_id: ChatId,
        token: str,
        options: Options,
    ) -> None:
        self._backend = backend
        self._authenticator = authenticator
        self._streams = streams
        self._actor = actor
        self._chat_id = chat_id
        self._token = token
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a place, and keep the chat's feed open for as long as it lasts."""
        # Plain calls: context managers of generators would weigh 1 kB in each idle stream.
        self._streams.take_place(self._actor.user_id)
        try:
            feed = self._streams.feeds.open(self._chat_id)
            try:
                await self._serve(feed, scope, receive, send)
            finally:
                self._streams.feeds.release(feed)
        finally:
            self._streams.give_place(self._actor.user_id)

    async def _serve(self, feed: Feed, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin with `stream.sync`, then write until something ends the stream."""
        first, position = await self._first(feed)
        epoch = feed.epoch

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def begin(reason: GapReason, seq: int) -> tuple[bytes, int]:
            nonlocal epoch
            requested, epoch = str(Cursor(epoch, seq)), feed.epoch
            return await self._begin(feed, reason, requested)

        viewer = Viewer(feed, self._options.wanted, position, write=write, begin=begin)
        feed.watchers.add(viewer)
        stream = OpenStream(viewer, self._may_see, dropper(scope))
        self._streams.add(stream)
        watch = asyncio.create_task(_until_gone(receive, viewer), name="stream.disconnect")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await viewer.run(PREAMBLE + first)
        except SteersmanError as error:
            # The snapshot after a gap could not be had: the client comes back and asks again.
            log.info("stream.ended", chat_id=self._chat_id, error_code=error.code)
        finally:
            watch.cancel()
            self._streams.remove(stream)
            feed.watchers.discard(viewer)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _may_see(self) -> None:
        await self._authenticator.identify(self._token)
        await self._authorise(self._chat_id)

    async def _authorise(self, chat_id: ChatId) -> None:
        await self._backend.call(GET, GetChat(self._actor, chat_id))

    async def _first(self, feed: Feed) -> tuple[bytes, int]:
        """The bytes to begin with, and the position after them."""
        cursor = self._options.cursor
        if cursor is None:
            if not self._options.snapshot:
                await self._authorise(feed.chat_id)
            return await self._begin(feed, None, "")
        await self._authorise(feed.chat_id)
        head = await feed.position()
        if cursor.epoch != feed.epoch:
            return await self._begin(feed, "epoch", str(cursor))
        found = await feed.resume(cursor.seq)
        if not isinstance(found, Page):
            return await self._begin(feed, found, str(cursor))
        box = Mailbox(self._options.wanted, cursor.seq)
        sync = self._sync(feed, cursor.seq, max(head, cursor.seq))
        return sync + box.accept(found.entries, feed.epoch), box.sent

    async def _begin(
        self, feed: Feed, reason: GapReason | None, requested: str
    ) -> tuple[bytes, int]:
        """Begin with the present: a snapshot, unless none is wanted."""
        while True:
            position = await feed.position()
            epoch = feed.epoch
            snapshot = None
            if self._options.snapshot:
                snapshot = await take_snapshot(
                    self._backend,
                    self._streams.feeds.log,
                    self._actor,
                    feed.chat_id,
                    position=position,
                    previews=self._options.wanted.deltas,
                )
            if epoch == feed.epoch:
                break
        gap = b""
        if reason is not None:
            gap = notice(StreamGap(chat_id=feed.chat_id, reason=reason, requested=requested))
        return gap + self._sync(feed, position, position, snapshot), position

    def _sync(
        self, feed: Feed, position: int, head: int, snapshot: ChatSnapshot | None = None
    ) -> bytes:
        event = StreamSync(
            chat_id=feed.chat_id,
            epoch=feed.epoch,
            position=position,
            head=head,
            snapshot=snapshot,
        )
        return notice(event, str(Cursor(feed.epoch, position)))


async def _until_gone(receive: Receive, viewer: Viewer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    viewer.end()
