"""The clock of the store: repeats hints of runnable chats that nobody works on, ends actions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog
from prometheus_client import Counter

from steersman_contracts.errors import SteersmanError, Unavailable
from steersman_contracts.ids import ChatId
from steersman_runtime.nats_client import NatsClient
from steersman_store.announce import Announcer
from steersman_store.database import Database
from steersman_store.families import Families
from steersman_store.settings import Settings
from steersman_store.streams import try_to_ensure_streams

log = structlog.stdlib.get_logger()

_MOST: Final = 1000

SWEPT = Counter("steersman_chats_swept", "Hints repeated for chats that nobody worked on")


class Sweep:
    """Looks at regular intervals, and at once after a reconnect to NATS."""

    def __init__(
        self,
        database: Database,
        client: NatsClient,
        announcer: Announcer,
        families: Families,
        settings: Settings,
    ) -> None:
        self._database = database
        self._client = client
        self._announcer = announcer
        self._families = families
        self._settings = settings
        self._now = asyncio.Event()

    async def run(self) -> None:
        """Sweep until cancelled."""
        self._client.on_reconnect.append(self._now.set)
        # At the start NATS may have been away for a moment, as at any other time.
        ensured = False
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.sweep_s):
                        await self._now.wait()
                    self._now.clear()
                    ensured = False
                # NATS may have come back without its store; and it may take a while until it can
                # be given one: without streams nobody hears a hint.
                ensured = ensured or await try_to_ensure_streams(self._client, self._settings)
                await self._sweep()
        finally:
            self._client.on_reconnect.remove(self._now.set)

    async def _sweep(self) -> None:
        try:
            await self._database.try_writing()
            for work in (self._families.sweep, self._expire_actions, self._expire_loose_ends):
                await _by_itself(work)
            rows = await self._database.rows("SELECT sweep_leases($1)::text AS id", _MOST)
        except SteersmanError as error:
            log.warning("sweep.failed", error_code=error.code)
            return
        for row in rows:
            self._announcer.runnable(ChatId(row["id"]))
        SWEPT.inc(len(rows))

    async def _expire_loose_ends(self) -> None:
        await self._database.value("SELECT expire_files($1)", _MOST)
        await self._database.value("SELECT expire_imports()")

    async def _expire_actions(self) -> None:
        for _ in range(_MOST):
            row = await self._database.row("SELECT chat_id::text, runnable FROM expire_action()")
            if row is None or row["chat_id"] is None:
                return
            chat_id = ChatId(row["chat_id"])
            log.info("action.expired", chat_id=chat_id)
            self._announcer.changed(chat_id)
            if row["runnable"]:
                self._announcer.runnable(chat_id)
                self._families.limited_anew(chat_id)  # the next of its queue begins a turn
            self._families.rested(chat_id)


async def _by_itself(work: Callable[[], Awaitable[None]]) -> None:
    """Do one thing of many: whatever breaks in it, chats without a worker still get one."""
    try:
        await work()
    except Unavailable:
        raise  # nothing else can be done either
    except Exception as error:
        log.error("sweep.broken", exc_info=error)  # noqa: TRY400  # it has the error
