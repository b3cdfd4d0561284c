"""What was used and what it cost, summed up."""

from __future__ import annotations

import msgspec

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.rpc import usage as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database


class Usage:
    """Answers what people ask about usage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.GET_USAGE, self.report)

    async def report(self, request: rpc.GetUsage) -> msgspec.Raw:
        first, last = request.first_day, request.last_day
        if first is not None and last is not None and first > last:
            raise InvalidRequest("`from` is after `to`", field="from")
        return await self._database.raw(
            "SELECT usage_report($1, $2, $3, $4, $5, $6, $7, $8)",
            request.actor.user_id,
            request.actor.role == "admin",
            request.group_by,
            first,
            last,
            request.chat_id,
            request.user_id,
            request.limit,
        )
