"""Calls about files."""

from __future__ import annotations

from steersman.client.exchange import Exchange
from steersman_contracts.ids import ChatId
from steersman_contracts.rest import Files
from steersman_contracts.rpc.files import StoredFile


class FileCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def upload_file(self, content: bytes, name: str) -> StoredFile:
        """Store a file, to be referred to in messages by its id."""
        return await self._exchange.upload("/files", StoredFile, content, name=name)

    async def download_file(self, file_id: str) -> bytes:
        """The bytes of a file."""
        return await self._exchange.read(f"/files/{file_id}")

    async def delete_file(self, file_id: str) -> None:
        """Remove a file for good; messages keep its name."""
        await self._exchange.delete(f"/files/{file_id}")

    async def list_files(self, chat_id: ChatId) -> tuple[StoredFile, ...]:
        """The files of a chat, the newest first."""
        return (await self._exchange.get(f"/chats/{chat_id}/files", Files)).files
