"""Attempts of which nothing is stored: what they have used is counted all the same."""

from __future__ import annotations

from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import attempts as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcer
from steersman_store.database import Database, json_text


class Attempts:
    """The handler of the group `worker` that books them."""

    def __init__(self, database: Database, announcer: Announcer) -> None:
        self._database = database
        self._announcer = announcer

    def serve(self, server: RpcServer) -> None:
        """Answer the method."""
        server.add(rpc.COUNT_ATTEMPT, self.count)

    async def count(self, request: rpc.CountAttempt) -> Nothing:
        counted: bool = await self._database.value(
            "SELECT count_attempt($1, $2, $3, $4, $5, $6)",
            request.chat_id,
            request.history_version,
            request.attempt,
            request.purpose,
            request.model,
            None if request.usage is None else json_text(request.usage),
        )
        if counted:
            self._announcer.changed(request.chat_id)
        return Nothing()
