"""Takes what is left of deleted chats out of the event log.

The relay removes what a chat said as soon as it publishes the end of the chat (`chat.deleted`).
Here goes the rest: at once the copies on the feed of its owner, which hold titles, prompts and
arguments of calls; and after a while, when whoever watched has seen the end, the end itself,
together with what a worker that had not heard of it still streamed. On the feed the end stays: a
list that was away needs it, and it says nothing but the id.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Final

import asyncpg
import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.events import EVENT_HEADER, ChatDeleted
from steersman_contracts.ids import ChatId, UserId
from steersman_runtime.jetstream import (
    StoredMessage,
    delete_messages,
    purge_subject,
    read_subject,
)
from steersman_runtime.nats_client import NatsClient, header
from steersman_store.database import Database
from steersman_store.settings import Settings

log = structlog.stdlib.get_logger()

_MOST: Final = 100
_NAME: Final = EVENT_HEADER.encode()
_END: Final = ChatDeleted.name.encode()

# Marked before it is done, so that one replica does it. If that one dies, what is due does it.
_TAKE_COPIES: Final = """
UPDATE purges SET copies_gone = true WHERE chat_id IN (
    SELECT chat_id FROM purges WHERE owner_id IS NOT NULL AND NOT copies_gone
        LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING chat_id::text AS chat_id, owner_id::text AS owner_id
"""
_RETURN_COPIES: Final = "UPDATE purges SET copies_gone = false WHERE chat_id = ANY ($1)"
_DUE: Final = """
SELECT chat_id::text AS chat_id, owner_id::text AS owner_id FROM purges
    WHERE due_at < clock_timestamp() ORDER BY due_at LIMIT $1
"""
_PURGED: Final = "DELETE FROM purges WHERE chat_id = ANY ($1)"


class Purges:
    """Looks at regular intervals."""

    def __init__(self, database: Database, client: NatsClient, settings: Settings) -> None:
        self._database = database
        self._client = client
        self._interval_s = settings.sweep_s

    async def run(self) -> None:
        """Purge until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._copies()
                await self._due()
            except SteersmanError as error:  # it stays to be done
                log.warning("purge.failed", error_code=error.code)

    async def _copies(self) -> None:
        taken = _by_owner(await self._database.rows(_TAKE_COPIES, _MOST))
        for owner_id, chat_ids in taken.items():
            try:
                await self._remove_copies(owner_id, chat_ids)
            except SteersmanError:
                await self._database.value(_RETURN_COPIES, sorted(chat_ids))
                raise

    async def _due(self) -> None:
        rows = await self._database.rows(_DUE, _MOST)
        for row in rows:
            subject = subjects.chat_events(ChatId(row["chat_id"]))
            await purge_subject(self._client, subjects.EVENT_STREAM, subject)
        # Once more: a replica of the log that was behind may not have shown the newest copies.
        for owner_id, chat_ids in _by_owner(rows).items():
            await self._remove_copies(owner_id, chat_ids)
        if rows:
            await self._database.value(_PURGED, [row["chat_id"] for row in rows])

    async def _remove_copies(self, owner_id: UserId, chat_ids: set[ChatId]) -> None:
        found: list[int] = []

        def look(message: StoredMessage) -> None:
            event_id = (header(message.headers, b"ce-id") or b"").decode()
            if event_id.partition("/")[0] in chat_ids and header(message.headers, _NAME) != _END:
                found.append(message.seq)

        subject = subjects.my_events(owner_id)
        await read_subject(self._client, subjects.EVENT_STREAM, subject, on_message=look)
        await delete_messages(self._client, subjects.EVENT_STREAM, found)


def _by_owner(rows: list[asyncpg.Record]) -> dict[UserId, set[ChatId]]:
    """The chats of each owner; without those from before owners were noted."""
    chats: defaultdict[UserId, set[ChatId]] = defaultdict(set)
    for row in rows:
        if row["owner_id"] is not None:
            chats[UserId(row["owner_id"])].add(ChatId(row["chat_id"]))
    return chats
