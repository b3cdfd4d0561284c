"""The outbox relay: publishes events to the log, in order; deletes them once they are there.

One relay per range of partitions is the leader, by an advisory lock; the others stand by. It is
nudged after every commit, by this process or over NATS by another, and looks once a second anyway.
An event that is published again after a crash is dropped by its message id or by its readers.
What changes the list of a person's chats goes to that person's subject as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter, Gauge

from steersman_contracts import subjects
from steersman_contracts.errors import PayloadTooLarge, SteersmanError, Unavailable
from steersman_contracts.events import EVENT_HEADER
from steersman_contracts.feed import LISTED_NAMES
from steersman_contracts.ids import ChatId, UserId
from steersman_runtime.jetstream import Publisher, purge_subject
from steersman_runtime.nats_client import NatsClient, encode_headers
from steersman_store.database import Database

log = structlog.stdlib.get_logger()

_LOCKS: Final = 0x5732_0100
_PARTITIONS: Final = 256
_BATCH: Final = 500
_LOOK_S: Final = 1.0

RELAYED = Counter("steersman_outbox_relayed", "Events published from the outbox")
LEADING = Gauge("steersman_outbox_leading", "Ranges of the outbox that this process relays")

# What the log has confirmed goes with the look for more: one commit for both.
_TAKE: Final = """
WITH confirmed AS (DELETE FROM outbox WHERE id = ANY ($4))
SELECT id, chat_id::text AS chat_id, owner_id::text AS owner_id, event, body FROM outbox
    WHERE part >= $1 AND part < $2 AND id <> ALL ($4) ORDER BY id LIMIT $3
"""
_PURGE_LATER: Final = """
INSERT INTO purges (chat_id, owner_id, due_at)
    VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
    -- Published once more after a crash, and what was before it too.
    ON CONFLICT (chat_id) DO UPDATE SET copies_gone = false
"""
# A deletion that a crash of PostgreSQL undoes only publishes an event again.
_BEGIN_LEAD: Final = "SET synchronous_commit = off"
_END_LEAD: Final = "RESET synchronous_commit"


def range_of(part: int, ranges: int) -> int:
    """The range that a partition belongs to."""
    return part * ranges // _PARTITIONS


class OutboxRelay:
    """Relays all ranges that this process can get the lead of."""

    def __init__(
        self,
        database: Database,
        client: NatsClient,
        publisher: Publisher,
        *,
        ranges: int,
        keep_deleted_s: float,
    ) -> None:
        self._database = database
        self._client = client
        self._publisher = publisher
        self._ranges = ranges
        self._keep_deleted_s = keep_deleted_s
        self._nudges = [asyncio.Event() for _ in range(ranges)]
        self._leads = [False] * ranges

    def nudge(self, chat_id: ChatId) -> None:
        """There is something in the outbox."""
        mine = range_of(subjects.partition(chat_id), self._ranges)
        if self._leads[mine]:
            self._nudges[mine].set()
            return
        try:
            self._client.send(subjects.relay_nudge(mine), b"")
        except SteersmanError:
            log.debug("relay.nudge_lost")

    async def run(self) -> None:
        """Relay until cancelled."""
        sid = self._client.listen(subjects.RELAY_NUDGES, self._on_nudge)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._ranges):
                    group.create_task(self._keep_leading(number), name=f"relay-{number}")
        finally:
            self._client.unlisten(sid)

    def _on_nudge(self, subject: bytes, _: bytes, __: bytes, ___: bytes) -> None:
        number = int(subject.rsplit(b".", 1)[1])
        if number < self._ranges:
            self._nudges[number].set()

    async def _keep_leading(self, number: int) -> None:
        while True:
            try:
                await self._lead(number)
            except SteersmanError as error:
                log.warning("relay.paused", range=number, error_code=error.code, error=str(error))
            finally:
                if self._leads[number]:
                    self._leads[number] = False
                    LEADING.dec()
            await asyncio.sleep(_LOOK_S)

    async def _lead(self, number: int) -> None:
        # The lock belongs to the session: it is free at once when this process or its host dies.
        async with self._database.session() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCKS + number):
                return
            try:
                self._leads[number] = True
                LEADING.inc()
                await connection.execute(_BEGIN_LEAD)
                log.info("relay.leading", range=number)
                await self._relay(number, connection)
            finally:
                await _unlock(connection, number)

    async def _relay(self, number: int, connection: Any) -> None:
        low = -(-number * _PARTITIONS // self._ranges)
        high = -(-(number + 1) * _PARTITIONS // self._ranges)
        nudged = self._nudges[number]
        confirmed: list[int] = []
        while True:
            nudged.clear()
            rows = await connection.fetch(_TAKE, low, high, _BATCH, confirmed)
            confirmed = []
            if rows:
                seqs = await self._publish(rows)
                await self._forget_deleted(connection, rows, seqs)
                confirmed = [row["id"] for row in rows]
                RELAYED.inc(len(rows))
            if len(rows) < _BATCH:
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await nudged.wait()
                except TimeoutError:
                    continue

    async def _publish(self, rows: list[asyncpg.Record]) -> list[int]:
        """The sequences that the log has given to the events."""
        sent = [list(self._send_all(row)) for row in rows]
        results = await asyncio.gather(*chain.from_iterable(sent), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                # Nothing of this batch is deleted: it is published again, in the same order.
                if isinstance(result, SteersmanError):
                    raise result
                raise Unavailable("the event log cannot be written") from result
        return [of_chat.result() for of_chat, *_ in sent]

    def _send_all(self, row: asyncpg.Record) -> Iterator[asyncio.Future[int]]:
        """Publish an event; to the owner as well, if it changes how the chat looks in a list."""
        chat_id = ChatId(row["chat_id"])
        event_id = f"{chat_id}/{row['id']}"
        yield self._send(row, subjects.chat_events(chat_id), f"/chats/{chat_id}", event_id)
        # No owner: written before there was such a column.
        if row["event"] in LISTED_NAMES and row["owner_id"] is not None:
            owner_id = UserId(row["owner_id"])
            # The stream drops a second message of the same id, whatever its subject.
            message_id = f"me/{event_id}"
            yield self._send(row, subjects.my_events(owner_id), f"/users/{owner_id}", message_id)

    def _send(
        self, row: asyncpg.Record, subject: str, source: str, message_id: str
    ) -> asyncio.Future[int]:
        headers = encode_headers(
            {
                "ce-specversion": "1.0",
                EVENT_HEADER: row["event"],
                "ce-source": source,
                "ce-id": f"{row['chat_id']}/{row['id']}",
                "Nats-Msg-Id": message_id,
            }
        )
        body: bytes = row["body"].encode()
        try:
            return self._publisher.publish(subject, body, headers=headers)
        except PayloadTooLarge:
            return self._publisher.publish(subject, without_parts(body), headers=headers)

    async def _forget_deleted(
        self, connection: Any, rows: list[asyncpg.Record], seqs: list[int]
    ) -> None:
        """What a deleted chat said leaves the log, but for the news that it is deleted.

        That goes later (`purges.py`): together with what a worker that had not heard of it still
        streamed, and with all that could not be removed now.
        """
        for row, seq in zip(rows, seqs, strict=True):
            if row["event"] != "chat.deleted":
                continue
            await connection.execute(
                _PURGE_LATER, row["chat_id"], row["owner_id"], self._keep_deleted_s
            )
            if seq == 1:
                continue  # of a log made anew: nothing is before it, and NATS takes 1 for all
            subject = subjects.chat_events(ChatId(row["chat_id"]))
            try:
                await purge_subject(self._client, subjects.EVENT_STREAM, subject, before=seq)
            except SteersmanError as error:
                log.warning("purge.failed", chat_id=row["chat_id"], error_code=error.code)


async def _unlock(connection: Any, number: int) -> None:
    try:
        await connection.execute(_END_LEAD)
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCKS + number)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        # The session is gone, and the lock with it.
        log.debug("relay.unlock_skipped", range=number)


def without_parts(body: bytes) -> bytes:
    """An event that is too large for the log, without the parts or arguments that make it so."""
    event = msgspec.json.decode(body, type=dict[str, Any])
    for key in ("message", "queue"):
        held = event.get(key)
        items: list[dict[str, Any]] = [held] if isinstance(held, dict) else held or []
        for item in items:
            item["parts"] = []
            if key == "message":
                item["truncated"] = True
    for holder in (event, event.get("chat") or {}):
        action: dict[str, list[dict[str, Any]]] = holder.get("action") or {}
        for call in (*action.get("calls", ()), *action.get("approvals", ())):
            call["arguments"] = {}
    return msgspec.json.encode(event)
