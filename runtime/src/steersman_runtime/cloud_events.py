"""The attributes of an event of a chat, as headers (CloudEvents 1.0, binary mode)."""

from __future__ import annotations

from steersman_contracts.events import EVENT_HEADER
from steersman_contracts.ids import ChatId


def event_headers(name: str, chat_id: ChatId, event_id: str) -> dict[str, str]:
    """What every message on the subject of a chat carries.

    Args:
        name: Of the event.
        chat_id: Where it happened.
        event_id: Of this event and no other of the chat.
    """
    return {
        "ce-specversion": "1.0",
        EVENT_HEADER: name,
        "ce-source": f"/chats/{chat_id}",
        "ce-id": event_id,
    }
