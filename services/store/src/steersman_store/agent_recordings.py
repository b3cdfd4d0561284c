"""What was recorded of agents, and which agents are done: for the desktop service."""

from __future__ import annotations

from typing import Final

from steersman_contracts.agents import DONE
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import agent_recordings as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database

_DONE: Final = sorted(status.value for status in DONE)


class AgentRecordings:
    """Keeps where they are; the recordings themselves lie with the desktop service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer these methods of the group `desktop_chats`."""
        server.add(rpc.RECORDED, self.recorded)
        server.add(rpc.FIND_DONE, self.find_done)

    async def recorded(self, request: rpc.AgentRecorded) -> Nothing:
        await self._database.rows(
            "INSERT INTO agent_recordings (agent_id, chat_id, recording_id) "
            "SELECT c.id, $2::uuid, $3 FROM chats c WHERE c.id = $1 ON CONFLICT DO NOTHING",
            request.agent_id,
            request.chat_id,
            request.recording_id,
        )
        return Nothing()

    async def find_done(self, request: rpc.FindDone) -> rpc.Done:
        rows = await self._database.rows(
            "SELECT asked.id FROM unnest($1::uuid[]) AS asked (id) "
            "LEFT JOIN chats c ON c.id = asked.id "
            "WHERE c.id IS NULL OR c.archived OR c.status = ANY ($2)",
            list(request.chat_ids),
            _DONE,
        )
        return rpc.Done(tuple(ChatId(str(row["id"])) for row in rows))
