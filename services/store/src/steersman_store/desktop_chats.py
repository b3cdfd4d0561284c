"""Tells the desktop service which chats are no more, so that it keeps nothing of them."""

from __future__ import annotations

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import desktop_chats as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database


class DesktopChats:
    """Answers from the chats themselves: a service that missed the news hears it all the same."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.FIND_DELETED, self.find_deleted)

    async def find_deleted(self, request: rpc.FindDeleted) -> rpc.Deleted:
        rows = await self._database.rows(
            "SELECT asked.id FROM unnest($1::uuid[]) AS asked (id) "
            "WHERE NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = asked.id)",
            list(request.chat_ids),
        )
        return rpc.Deleted(tuple(ChatId(str(row["id"])) for row in rows))
