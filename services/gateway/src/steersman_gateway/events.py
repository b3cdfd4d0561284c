"""`GET /api/v1/chats/{chat_id}/events` and `GET /api/v1/events`: what happens, as it happens."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.datastructures import State
from litestar.params import HeaderParameter, QueryParameter

from steersman_contracts.events import StreamGap, StreamSync
from steersman_contracts.feed import FIRST_PAGE, ChatsSnapshot, FeedGap, FeedSync
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.chats import GET, LIST, GetChat, ListChats
from steersman_gateway.auth import CurrentActor, token_of
from steersman_gateway.backend import Backend
from steersman_gateway.cursors import encode_cursor
from steersman_gateway.event_log import EventLog
from steersman_gateway.event_stream import Cursor, EventStream, Options, Source, parse_cursor
from steersman_gateway.feeds import GapReason
from steersman_gateway.frames import FEED_NAMES, NAMES, Wanted, notice
from steersman_gateway.ids import ChatInPath
from steersman_gateway.problems import invalid
from steersman_gateway.snapshots import take_snapshot
from steersman_gateway.topics import chat_topic, my_topic

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


def parse_types(text: str, known: frozenset[str] = NAMES) -> frozenset[bytes]:
    """The names in a list of names.

    Raises:
        InvalidRequest: There is no event of such a name.
    """
    names = frozenset(filter(None, text.split(",")))
    if unknown := sorted(names - known):
        raise invalid("types", f"there is no event {unknown[0]!r} on this stream")
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
) -> EventStream:
    """The events of a chat as server-sent events, from now on or from where you were.

    The first event is `stream.sync`: with a snapshot of the chat, or, given a cursor, without.
    When the cursor cannot be resumed, `stream.gap` comes before it, and a snapshot with it. The
    stream stays open while the chat is idle; a comment keeps it alive. Leaving changes nothing.
    """
    service = state.service
    wanted = Wanted(deltas, None if types is None else parse_types(types))
    source = ChatSource(service.backend, service.streams.feeds.log, actor, chat, previews=deltas)
    options = Options(_after(last_event_id, cursor), snapshot, wanted)
    return _stream(source, options, actor, request, service)


@get(
    "/events",
    operation_id="watchChats",
    summary="Watch all chats",
    tags=["Events"],
    sync_to_thread=False,
)
def watch_chats(
    actor: CurrentActor,
    request: Request[Any, Any, State],
    state: State,
    last_event_id: LastEventId = None,
    cursor: CursorText = None,
    snapshot: WithSnapshot = True,
    types: Types = None,
) -> EventStream:
    """What changes the list of your chats, as server-sent events; for lists and notifiers.

    The first event is `stream.sync`: with the first page of your chats, or, given a cursor,
    without. Resuming works as for one chat. What is said in a chat is not sent here.
    """
    service = state.service
    wanted = Wanted(types=None if types is None else parse_types(types, FEED_NAMES))
    source = ChatsSource(service.backend, actor)
    options = Options(_after(last_event_id, cursor), snapshot, wanted)
    return _stream(source, options, actor, request, service)


def _after(last_event_id: str | None, cursor: str | None) -> Cursor | None:
    text = last_event_id or cursor
    return parse_cursor(text) if text else None


def _stream(
    source: Source,
    options: Options,
    actor: Actor,
    request: Request[Any, Any, State],
    service: Any,  # of the application; naming its type here would be a circle
) -> EventStream:
    return EventStream(
        source,
        options,
        user_id=actor.user_id,
        token=token_of(request),
        authenticator=service.authenticator,
        streams=service.streams,
    )


class ChatSource:
    """The events of one chat."""

    __slots__ = ("_actor", "_backend", "_chat_id", "_log", "_previews", "topic")

    def __init__(
        self, backend: Backend, log: EventLog, actor: Actor, chat_id: ChatId, *, previews: bool
    ) -> None:
        self._backend = backend
        self._log = log
        self._actor = actor
        self._chat_id = chat_id
        self._previews = previews
        self.topic = chat_topic(chat_id)

    async def authorise(self) -> None:
        """Ask the store, which knows whose chat it is."""
        await self._backend.call(GET, GetChat(self._actor, self._chat_id))

    async def sync(self, epoch: str, position: int, head: int, *, snapshot: bool) -> bytes:
        """See `Source`."""
        found = None
        if snapshot:
            found = await take_snapshot(
                self._backend,
                self._log,
                self._actor,
                self._chat_id,
                position=position,
                previews=self._previews,
            )
        event = StreamSync(
            chat_id=self._chat_id, epoch=epoch, position=position, head=head, snapshot=found
        )
        return notice(event, str(Cursor(epoch, position)))

    def gap(self, reason: GapReason, requested: str) -> bytes:
        """See `Source`."""
        return notice(StreamGap(chat_id=self._chat_id, reason=reason, requested=requested))


class ChatsSource:
    """What changes the list of one person's chats."""

    __slots__ = ("_actor", "_backend", "topic")

    def __init__(self, backend: Backend, actor: Actor) -> None:
        self._backend = backend
        self._actor = actor
        self.topic = my_topic(actor.user_id)

    async def authorise(self) -> None:
        """Everybody may watch their own; whether the token still holds was asked before."""

    async def sync(self, epoch: str, position: int, head: int, *, snapshot: bool) -> bytes:
        """See `Source`."""
        found = await self._first_page() if snapshot else None
        event = FeedSync(epoch=epoch, position=position, head=head, snapshot=found)
        return notice(event, str(Cursor(epoch, position)))

    async def _first_page(self) -> ChatsSnapshot:
        page = await self._backend.call(LIST, ListChats(self._actor, FIRST_PAGE))
        if page.next is None:
            return ChatsSnapshot(page.chats)
        return ChatsSnapshot(page.chats, has_more=True, next_cursor=encode_cursor(page.next))

    def gap(self, reason: GapReason, requested: str) -> bytes:
        """See `Source`."""
        return notice(FeedGap(reason=reason, requested=requested))
