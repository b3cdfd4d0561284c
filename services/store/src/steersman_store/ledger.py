"""The ledger of tool calls: one SQL function per method, and a sweep of what is old."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from steersman_contracts.errors import SteersmanError
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import ledger as rpc
from steersman_contracts.rpc.tools import CallResult
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database

log = structlog.stdlib.get_logger()

LOST: Final = CallResult(
    (TextPart("interrupted: the call was cut off before its result was kept, effect unknown"),),
    is_error=True,
)
"""What a call gets whose host died while it ran, or which a crash of the database has forgotten.
Nobody knows which, and a model should not read that somebody is to blame."""
_LOST: Final = msgspec.json.encode(LOST)
_SWEEP_S: Final = 600.0
_MOST: Final = 5_000


class _RawReservation(msgspec.Struct, omit_defaults=True):
    yours: bool = False
    host: str | None = None
    result: msgspec.Raw | None = None


class Ledger:
    """The handlers of the group `ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.RESERVE, self.reserve)
        server.add(rpc.START, self.start)
        server.add(rpc.FINISH, self.finish)
        server.add(rpc.REFUSE, self.refuse)
        server.add(rpc.RENEW_HOST, self.renew_host)
        server.add(rpc.LIST_HOSTS, self.list_hosts)

    async def reserve(self, request: rpc.ReserveCall) -> msgspec.Raw:
        row = await self._database.row(
            "SELECT yours, at_host, answer FROM "
            "reserve_call($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            *_key(request.call),
            request.host,
            request.fingerprint,
            request.running,
            request.repeatable,
            _LOST,
            request.first,
            request.era,
        )
        assert row is not None  # a function call always has a row
        answer: bytes | None = row["answer"]
        if answer == _LOST:
            log.warning("call.lost", chat_id=request.call.chat_id, call_id=request.call.call_id)
        reservation = _RawReservation(
            row["yours"], row["at_host"], None if answer is None else msgspec.Raw(answer)
        )
        return msgspec.Raw(msgspec.json.encode(reservation))

    async def start(self, request: rpc.StartCall) -> rpc.Started:
        yours = await self._database.value(
            "SELECT start_call($1, $2, $3, $4)", *_key(request.call), request.host
        )
        return rpc.Started(yours)

    async def finish(self, request: rpc.FinishCall) -> rpc.Finished:
        ended = (rpc.EndedCall(request.call, request.result), *request.others)
        kept = await self._database.value(
            "SELECT finish_calls($1, $2, $3, $4, $5)",
            [one.call.chat_id for one in ended],
            [one.call.call_id for one in ended],
            [one.call.epoch for one in ended],
            [msgspec.json.encode(one.result) for one in ended],
            request.host,
        )
        return rpc.Finished(kept)

    async def list_hosts(self, request: rpc.ListHosts) -> rpc.HostList:
        del request
        rows = await self._database.rows(
            "SELECT host FROM tool_hosts WHERE host_lives(host) ORDER BY host"
        )
        return rpc.HostList(tuple(row["host"] for row in rows))

    async def refuse(self, request: rpc.RefuseCall) -> Nothing:
        await self._database.value(
            "SELECT refuse_call($1, $2, $3, $4)",
            *_key(request.call),
            msgspec.json.encode(request.result),
        )
        return Nothing()

    async def renew_host(self, request: rpc.RenewHost) -> Nothing:
        await self._database.value("SELECT renew_tool_host($1, $2)", request.host, request.lease_s)
        return Nothing()

    async def sweep(self) -> int:
        """Remove what is old; say how many calls that were."""
        swept: int = await self._database.value("SELECT sweep_tool_calls($1)", _MOST)
        return swept

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                while await self.sweep() == _MOST:
                    pass
            except SteersmanError as error:
                log.warning("ledger.not_swept", error_code=error.code)
            await asyncio.sleep(_SWEEP_S)


def _key(call: rpc.CallRef) -> tuple[str, str, int]:
    return call.chat_id, call.call_id, call.epoch
