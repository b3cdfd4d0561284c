"""Calls for finding chats again, and for going another way from the same history."""

from __future__ import annotations

from collections.abc import Mapping

from steersman.client.exchange import Exchange
from steersman_contracts.chats import Chat
from steersman_contracts.ids import ChatId
from steersman_contracts.rest import ForkBody, LabelsBody, MarkReadBody, PinBody


class LibraryCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def mark_read(self, chat_id: ChatId, message_id: int | None = None) -> Chat:
        """Move your last-read cursor forward, to the end unless a message is named."""
        path = f"/chats/{chat_id}/read"
        return await self._exchange.call(
            "POST", path, Chat, MarkReadBody(message_id), repeatable=True
        )

    async def pin(self, chat_id: ChatId, position: int = 1) -> Chat:
        """Pin a chat, or move its pin; 1 is first, and the others make room."""
        path = f"/chats/{chat_id}/pin"
        return await self._exchange.call("PUT", path, Chat, PinBody(position), repeatable=True)

    async def unpin(self, chat_id: ChatId) -> Chat:
        """Take the pin away; the others close the gap."""
        return await self._exchange.call("DELETE", f"/chats/{chat_id}/pin", Chat, repeatable=True)

    async def label(self, chat_id: ChatId, labels: Mapping[str, str]) -> Chat:
        """Replace all labels of a chat."""
        path = f"/chats/{chat_id}/labels"
        return await self._exchange.call(
            "PUT", path, Chat, LabelsBody(dict(labels)), repeatable=True
        )

    async def fork(self, chat_id: ChatId, message_id: int, title: str = "") -> Chat:
        """Make a new chat that shares the history up to a message; empty keeps the title."""
        path = f"/chats/{chat_id}/fork"
        return await self._exchange.call("POST", path, Chat, ForkBody(message_id, title))
