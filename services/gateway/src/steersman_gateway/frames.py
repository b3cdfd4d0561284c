"""Server-sent events as bytes: built once per event, shared by all who watch."""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_contracts.events import EVENTS, Event
from steersman_contracts.feed import FEED_EVENTS, FeedGap, FeedSync
from steersman_gateway.event_log import Entry

PREAMBLE: Final = b"retry: 1000\n\n"
PING: Final = b": ping\n\n"
DELTA: Final = b"part.delta"

_encode = msgspec.json.Encoder().encode


class Frame(msgspec.Struct, frozen=True, gc=False):
    """An event, ready to be written."""

    seq: int
    name: bytes
    data: bytes


class Wanted(msgspec.Struct, frozen=True):
    """Which events a viewer asked for; by name alone, the bodies stay unread."""

    deltas: bool = True
    types: frozenset[bytes] | None = None
    """None: all."""

    def __contains__(self, name: bytes) -> bool:
        if name == DELTA and not self.deltas:
            return False
        return self.types is None or name in self.types


EVERYTHING: Final = Wanted()
NAMES: Final = frozenset(EVENTS)
FEED_NAMES: Final = frozenset(FEED_EVENTS)


def frame(epoch: str, entry: Entry) -> Frame:
    """Build the frame of an event in the log."""
    payload = entry.payload
    if b"\n" in payload or b"\r" in payload:
        # JSON holds line breaks only between its tokens; in a frame they would end the field.
        payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
    data = b"id: %b.%d\nevent: %b\ndata: %b\n\n" % (
        epoch.encode(),
        entry.seq,
        entry.name,
        payload,
    )
    return Frame(entry.seq, entry.name, data)


def notice(event: Event | FeedSync | FeedGap, cursor: str | None = None) -> bytes:
    """Build the frame of an event that is not in the log; without `cursor` it has no id."""
    head = b"" if cursor is None else b"id: %b\n" % cursor.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.name.encode(), _encode(event))


def position(epoch: str, seq: int) -> bytes:
    """Tell a client how far it is, when events that it did not ask for lie between.

    A block without data is no event: the client takes over the id and dispatches nothing (WHATWG
    HTML, 9.2.6).
    """
    return b"id: %b.%d\n\n" % (epoch.encode(), seq)
