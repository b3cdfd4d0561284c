"""The feed of all chats of one person: what lists, sidebars and notifiers need, and no more.

Durable events that change how a chat looks in a list are in the log twice: once on the subject of
their chat, and once on the subject of its owner, with the same name and the same body. Nothing that
streams is ever on the owner's.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.chats import Chat
from steersman_contracts.events import (
    ActionRequired,
    ChatArchived,
    ChatCreated,
    ChatDeleted,
    ChatErrored,
    ChatStatusChanged,
    ChatUnarchived,
    ChatUpdated,
    DurableEvent,
    EventName,
)

LISTED: Final[tuple[type[DurableEvent], ...]] = (
    ChatCreated,
    ChatUpdated,
    ChatArchived,
    ChatUnarchived,
    ChatDeleted,
    ChatStatusChanged,
    ChatErrored,
    ActionRequired,
)
"""The events that are also published to the owner."""
LISTED_NAMES: Final[frozenset[str]] = frozenset(event.name for event in LISTED)
FIRST_PAGE: Final = 50
"""Chats in the snapshot of a feed."""


class ChatsSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first page of a person's chats that are not archived, the most recently changed first."""

    chats: tuple[Chat, ...]
    has_more: bool = False
    next_cursor: str | None = None
    """Where to go on in the list of chats; absent when this is all of them."""


class FeedSync(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """First on every stream of a feed, and again after a gap. Never in the log.

    With a snapshot, everything before is replaced by it. Without one, the stream goes on after the
    reader's cursor.
    """

    name: ClassVar[EventName] = "stream.sync"
    epoch: str
    position: int
    """The log sequence that the reader has after this event."""
    head: int
    """The newest sequence of the feed when the stream was attached."""
    snapshot: ChatsSnapshot | None = None


class FeedGap(msgspec.Struct, frozen=True, kw_only=True):
    """The reader's cursor cannot be resumed; a `stream.sync` with a snapshot follows."""

    name: ClassVar[EventName] = "stream.gap"
    reason: Literal["epoch", "expired", "ahead"]
    requested: str


FeedEvent: TypeAlias = DurableEvent | FeedSync | FeedGap
FEED_EVENTS: Final[dict[str, type[FeedEvent]]] = {
    **{event.name: event for event in LISTED},
    FeedSync.name: FeedSync,
    FeedGap.name: FeedGap,
}
"""Everything that the stream of a feed carries, by name."""
