"""Notices at once that a chatloop has died: NATS tells the system account who lost a connection.

Without a system account, or when the news is lost, the lease runs out; that is only slower.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog
from prometheus_client import Counter

from steersman_contracts.errors import SteersmanError
from steersman_contracts.ids import ChatId
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.tasks import TaskGroup
from steersman_store.announce import Announcer
from steersman_store.database import Database

log = structlog.stdlib.get_logger()

CONNECTED: Final = "$SYS.ACCOUNT.*.CONNECT"
DISCONNECTED: Final = "$SYS.ACCOUNT.*.DISCONNECT"

_RUNNERS: Final = "chatloop/"
_GRACE_S: Final = 0.3
"""A connection that was only interrupted is back by then (clients try again after 0.25 s)."""

DROPPED = Counter("steersman_runners_dropped", "Chatloops whose connection was lost")


class _Client(msgspec.Struct):
    name: str = ""


class _Advisory(msgspec.Struct):
    client: _Client = msgspec.field(default_factory=_Client)


_decode = msgspec.json.Decoder(_Advisory).decode


class Drops:
    """Ends the leases of runners whose connection is gone, and calls others to their chats."""

    def __init__(
        self,
        system: NatsClient,
        database: Database,
        announcer: Announcer,
        *,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._system = system
        self._database = database
        self._announcer = announcer
        self._grace_s = grace_s
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._tasks = TaskGroup("drops")

    async def run(self) -> None:
        """Watch until cancelled."""
        sids = (
            self._system.listen(DISCONNECTED, self._on_disconnect),
            self._system.listen(CONNECTED, self._on_connect),
        )
        try:
            await asyncio.Event().wait()
        finally:
            for sid in sids:
                self._system.unlisten(sid)
            for timer in self._leaving.values():
                timer.cancel()
            await self._tasks.cancel()

    def _on_disconnect(self, _: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        name = _decode(payload).client.name
        if not name.startswith(_RUNNERS) or name in self._leaving:
            return
        loop = asyncio.get_running_loop()
        self._leaving[name] = loop.call_later(self._grace_s, self._gone, name)

    def _on_connect(self, _: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        timer = self._leaving.pop(_decode(payload).client.name, None)
        if timer is not None:
            timer.cancel()

    def _gone(self, name: str) -> None:
        del self._leaving[name]
        self._tasks.start(self._expire(name.removeprefix(_RUNNERS)))

    async def _expire(self, runner_id: str) -> None:
        try:
            rows = await self._database.rows(
                "DELETE FROM leases WHERE runner_id = $1 RETURNING chat_id::text AS id", runner_id
            )
        except SteersmanError as error:
            log.warning("runner.not_expired", runner_id=runner_id, error_code=error.code)
            return
        if rows:
            DROPPED.inc()
            log.info("runner.dropped", runner_id=runner_id, chats=len(rows))
        for row in rows:
            self._announcer.runnable(ChatId(row["id"]))
