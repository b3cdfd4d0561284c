"""Changes of control over desktops, in the book of who did what."""

from __future__ import annotations

from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import desktop_audit as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database, json_text


class DesktopAudit:
    """Writes for the desktop service, which has no other right here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.RECORD_CONTROL, self.record)

    async def record(self, request: rpc.RecordControl) -> Nothing:
        control = request.control
        details = {
            "revision": control.revision,
            "holder": control.holder,
            "private": control.private,
            "reason": control.reason,
        }
        await self._database.rows(
            "INSERT INTO audit (actor_id, chat_id, action, details) "
            "SELECT $1, c.id, $3, $4::json FROM chats c WHERE c.id = $2 AND NOT EXISTS ("
            "SELECT 1 FROM audit a WHERE a.chat_id = $2 AND a.action = $3 "
            "AND a.details ->> 'revision' = $5)",
            request.person,
            request.chat_id,
            rpc.CONTROL_CHANGED,
            json_text(details),
            str(control.revision),
        )
        return Nothing()
