"""What can be watched: one chat, or the list of one person's chats."""

from __future__ import annotations

from typing import Final, NamedTuple

from steersman_contracts import subjects
from steersman_contracts.events import ChatDeleted
from steersman_contracts.ids import ChatId, UserId

_DELETED: Final = ChatDeleted.name.encode()


class Topic(NamedTuple):
    """A subject of the event log."""

    subject: str
    ends: bytes | None
    """The name of the event that nothing follows: those before it are purged then."""


def chat_topic(chat_id: ChatId) -> Topic:
    """The events of one chat."""
    return Topic(subjects.chat_events(chat_id), _DELETED)


def my_topic(user_id: UserId) -> Topic:
    """What changes the list of a person's chats. It has no end."""
    return Topic(subjects.my_events(user_id), None)
