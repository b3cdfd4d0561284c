"""The reference reducer of the feed of all chats: events in, a list of chats out.

Pure, as the one for a chat is. The rules:

- `stream.sync` with a snapshot replaces everything by its page of chats.
- A durable event is ignored if its `snapshot_version` is not newer than that of the chat as the
  snapshot, or a later read over REST, had it. Several events of one transition share a version,
  so it is not compared with that of other events; a repeat of an older one is ignored.
- An event of a chat that is on no page so far: the chat is `unknown`, and has to be read.
- An event with a `parent_id` is of an agent: the list has none, so it is ignored.
- `queue_size` is as of the last whole chat: what waits in queues is not part of this feed.
"""

from __future__ import annotations

import msgspec

from steersman_contracts import events as e
from steersman_contracts.chats import Chat, Status
from steersman_contracts.feed import ChatsSnapshot, FeedEvent, FeedGap, FeedSync
from steersman_contracts.ids import ChatId


class ChatsView:
    """All chats that are known of one person.

    Attributes:
        unknown: Chats that something happened to and that are not known: read each of them, and
            `put` it here, or `forget` it.
        has_more: There are more chats than the snapshot held, less recently changed.
        next_cursor: Where to go on in the list of chats.
    """

    def __init__(self) -> None:
        self._chats: dict[ChatId, Chat] = {}
        self._floors: dict[ChatId, int] = {}
        self._deleted: set[ChatId] = set()
        self.unknown: set[ChatId] = set()
        self.has_more = False
        self.next_cursor: str | None = None

    # -- what it shows ---------------------------------------------------------------------------

    @property
    def chats(self) -> tuple[Chat, ...]:
        """What is not archived: pins in their order, then the most recently changed first."""
        return tuple(sorted(self._listed(archived=False), key=_pins_first))

    @property
    def archived(self) -> tuple[Chat, ...]:
        """What is archived and known, the most recently changed first."""
        return tuple(self._listed(archived=True))

    def _listed(self, *, archived: bool) -> list[Chat]:
        found = [chat for chat in self._chats.values() if chat.archived is archived]
        return sorted(found, key=lambda chat: (chat.updated_at, chat.id), reverse=True)

    def get(self, chat_id: ChatId) -> Chat | None:
        """One chat, if it is known."""
        return self._chats.get(chat_id)

    # -- what changes it -------------------------------------------------------------------------

    def apply(self, event: FeedEvent) -> None:
        """Take in an event."""
        match event:
            case FeedSync():
                if event.snapshot is not None:
                    self._replace(event.snapshot)
            case FeedGap():  # the snapshot that follows says everything
                pass
            case _:
                self._durable(event)

    def put(self, chat: Chat) -> None:
        """Take in a chat that was read over REST, unless something newer is known."""
        known = self._chats.get(chat.id)
        if chat.id in self._deleted or (
            known is not None and known.snapshot_version > chat.snapshot_version
        ):
            return
        self.unknown.discard(chat.id)
        self._chats[chat.id] = chat
        self._floors[chat.id] = chat.snapshot_version

    def forget(self, chat_id: ChatId) -> None:
        """There is no such chat (any more)."""
        self._deleted.add(chat_id)
        self.unknown.discard(chat_id)
        self._chats.pop(chat_id, None)
        self._floors.pop(chat_id, None)

    def _replace(self, snapshot: ChatsSnapshot) -> None:
        self._chats, self._floors = {}, {}
        self._deleted, self.unknown = set(), set()
        for chat in snapshot.chats:
            self.put(chat)
        self.has_more, self.next_cursor = snapshot.has_more, snapshot.next_cursor

    def _durable(self, event: e.DurableEvent) -> None:
        chat = self._chats.get(event.chat_id)
        if event.parent_id is not None and chat is None:
            return
        if event.chat_id in self._deleted or self._is_old(event, chat):
            return
        match event:
            case e.ChatDeleted():
                self.forget(event.chat_id)
            case e.ChatCreated() | e.ChatUpdated():
                self._chats[event.chat_id] = event.chat
                self.unknown.discard(event.chat_id)
            case _ if chat is not None:
                changed = _changed(chat, event)
                self._chats[event.chat_id] = msgspec.structs.replace(
                    changed, snapshot_version=event.snapshot_version
                )
            case _:
                self.unknown.add(event.chat_id)

    def _is_old(self, event: e.DurableEvent, chat: Chat | None) -> bool:
        version = event.snapshot_version
        known = 0 if chat is None else chat.snapshot_version
        return version <= self._floors.get(event.chat_id, 0) or version < known


def _pins_first(chat: Chat) -> float:
    return float("inf") if chat.pin_position is None else chat.pin_position


def _changed(chat: Chat, event: e.DurableEvent) -> Chat:
    match event:
        case e.ChatArchived():
            at = event.updated_at or chat.updated_at
            return msgspec.structs.replace(chat, archived=True, pin_position=None, updated_at=at)
        case e.ChatUnarchived():
            at = event.updated_at or chat.updated_at
            return msgspec.structs.replace(chat, archived=False, updated_at=at)
        case e.ChatErrored():
            return msgspec.structs.replace(chat, last_error=event.error)
        case e.ActionRequired():
            return msgspec.structs.replace(chat, action=event.action)
        case e.ChatStatusChanged():
            return _with_status(chat, event)
        case _:  # of a newer server
            return chat


def _with_status(chat: Chat, event: e.ChatStatusChanged) -> Chat:
    return msgspec.structs.replace(
        chat,
        status=event.status,
        history_version=event.history_version,
        updated_at=event.updated_at or chat.updated_at,
        last_outcome=event.outcome or chat.last_outcome,
        has_unread=chat.has_unread if event.has_unread is None else event.has_unread,
        last_error=chat.last_error if event.status is Status.ERROR else None,
        action=chat.action if event.status is Status.REQUIRES_ACTION else None,
    )
