"""The book of tool calls: each key is given out once; what a dead host had depends on how far."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import pytest
from support.chat_driver import StoreDriver

from steersman_contracts.chats import Role
from steersman_contracts.errors import Conflict
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart, ToolCallPart
from steersman_contracts.rpc import ledger as rpc
from steersman_contracts.rpc import worker as rpc_worker
from steersman_contracts.rpc.tools import CallResult
from steersman_store.database import open_database
from steersman_store.ledger import LOST, Ledger

DONE = CallResult((TextPart("done \x00"),), duration_ms=3)
CALL = rpc.CallRef(ChatId("0190a0a0-0000-7000-8000-000000000001"), "c", 7)


class Book:
    def __init__(self, store: StoreDriver) -> None:
        self.rpc = store.rpc

    async def live(self, *hosts: str, lease_s: float = 60) -> None:
        for host in hosts:
            await self.rpc.call(rpc.RENEW_HOST, rpc.RenewHost(host, lease_s))

    async def reserve(self, host: str, **facts: Any) -> rpc.Reservation:
        request = rpc.ReserveCall(CALL, host, facts.pop("fingerprint", "f"), **facts)
        return await self.rpc.call(rpc.RESERVE, request)

    async def start(self, host: str) -> bool:
        return (await self.rpc.call(rpc.START, rpc.StartCall(CALL, host))).yours

    async def finish(self, host: str, result: CallResult = DONE) -> bool:
        return (await self.rpc.call(rpc.FINISH, rpc.FinishCall(CALL, host, result))).kept


@pytest.fixture
def book(store: StoreDriver) -> Book:
    return Book(store)


YOURS = rpc.Reservation(yours=True)


async def test_a_call_is_given_out_once_and_then_its_result(book: Book) -> None:
    await book.live("a", "b")

    assert await book.reserve("a") == YOURS
    assert await book.reserve("b") == rpc.Reservation(host="a")
    assert await book.reserve("a") == YOURS, "its first reply was lost"
    assert await book.finish("a")

    assert await book.reserve("b") == rpc.Reservation(result=DONE)
    for host in ("a", "b"):
        with pytest.raises(Conflict) as refused:
            await book.reserve(host, fingerprint="other")
        assert refused.value.details == {"call_id": "c"}


@pytest.mark.parametrize(
    ("running", "repeatable", "then"),
    [
        (False, False, YOURS),
        (True, True, YOURS),
        (True, False, rpc.Reservation(result=LOST)),
    ],
)
async def test_what_a_dead_host_had(
    book: Book, running: bool, repeatable: bool, then: rpc.Reservation
) -> None:
    await book.live("b")
    await book.live("a", lease_s=0)
    await book.reserve("a", running=running, repeatable=repeatable)
    await _let_postgres_be_old(book)

    assert await book.reserve("b", running=running, repeatable=repeatable) == then
    assert not await book.finish("a"), "it was given up"
    assert not await book.start("a")


async def _let_postgres_be_old(book: Book) -> None:
    """Nobody counts as dead in the first seconds of PostgreSQL: ask until those are over."""
    while True:
        probe = rpc.CallRef(ChatId(str(uuid.uuid4())), "probe")
        for host in ("a", "b"):
            request = rpc.ReserveCall(probe, host, "f", running=False)
            reservation = await book.rpc.call(rpc.RESERVE, request)
        if reservation.yours:
            return


@pytest.mark.parametrize(
    ("facts", "then"),
    [
        ({"repeatable": True}, YOURS),
        ({"first": True}, YOURS),
        ({}, rpc.Reservation(result=LOST)),
    ],
)
async def test_after_a_crash_nobody_but_who_stored_a_call_can_say_that_it_has_not_begun(
    book: Book, store: StoreDriver, database_url: str, facts: dict[str, Any], then: rpc.Reservation
) -> None:
    chat = await store.create("go")
    await store.acquire(chat.id)
    calls = rpc_worker.NewMessage(Role.ASSISTANT, (ToolCallPart("c", "t", {}),), stop="tool-calls")
    era = (await store.commit(await store.fence(chat.id), calls)).chat.calls_era
    assert era is not None
    await book.live("a", "b")
    assert await book.reserve("a", era=era) == YOURS, "there was no crash since then"
    await _crash(database_url)

    assert (await store.acquire(chat.id)).chat.calls_era == era, "it was written with the step"
    assert await book.reserve("b", era=era, **facts) == then
    # Whatever it was: it is in the book now, and stays there.
    assert await book.reserve("a", era=era) == (then if then.result else rpc.Reservation(host="b"))


async def _crash(database_url: str) -> None:
    """What a crash takes: the unlogged tables, and the last of what did not wait for the disk."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE eras; DELETE FROM tool_calls")
    await connection.close()


async def test_only_a_first_request_for_a_stored_call_does_not_wait_for_the_disk(
    database_url: str,
) -> None:
    query = "SELECT reserve_call($1, $2, 1, 'a', 'f', true, false, '', $3, $4)"
    waits: dict[tuple[bool, str | None], str] = {}
    connection = await asyncpg.connect(database_url)
    for first in (True, False):
        era: str | None
        for era in (await connection.fetchval("SELECT current_era()"), None):
            async with connection.transaction():
                await connection.fetchval(query, CALL.chat_id, f"{first} {era}", first, era)
                waits[first, era and "era"] = await connection.fetchval("SHOW synchronous_commit")
    await connection.close()

    assert waits == {
        (True, "era"): "off",
        (True, None): "on",
        (False, "era"): "on",
        (False, None): "on",
    }


async def test_a_reserved_call_begins_only_while_it_is_the_hosts(book: Book) -> None:
    await book.live("a", "b")
    await book.reserve("a", running=False)

    assert await book.start("a")
    assert not await book.start("b")
    assert await book.reserve("b") == rpc.Reservation(host="a")


async def test_calls_that_end_together_are_written_together_and_each_only_by_its_host(
    book: Book,
) -> None:
    await book.live("a", "b")
    refs = [rpc.CallRef(CALL.chat_id, call_id, 7) for call_id in ("c", "d", "e")]
    results = [CallResult((TextPart(ref.call_id),)) for ref in refs]
    for ref, host in zip(refs, ("a", "a", "b"), strict=True):
        assert (await book.rpc.call(rpc.RESERVE, rpc.ReserveCall(ref, host, "f"))).yours

    ended = tuple(rpc.EndedCall(ref, result) for ref, result in zip(refs, results, strict=True))
    kept = [
        (await book.rpc.call(rpc.FINISH, rpc.FinishCall(CALL, "a", results[0], others))).kept
        for others in (ended[1:2], ended[1:])
    ]

    assert kept == [True, False]
    asked = [await book.rpc.call(rpc.RESERVE, rpc.ReserveCall(ref, "a", "f")) for ref in refs]
    assert asked == [
        *(rpc.Reservation(result=result) for result in results[:2]),
        rpc.Reservation(host="b"),
    ]


async def test_a_refused_call_never_runs(book: Book, store: StoreDriver) -> None:
    await store.rpc.call(rpc.REFUSE, rpc.RefuseCall(CALL, LOST))

    assert await book.reserve("a") == rpc.Reservation(result=LOST)


async def test_results_go_after_a_day_and_with_their_chat(
    book: Book, store: StoreDriver, database_url: str
) -> None:
    chat = await store.create(None)
    await book.live("a")
    connection = await asyncpg.connect(database_url)
    rows = [
        ("kept", chat.id, "done", "23 hours"),
        ("a day old", chat.id, "done", "25 hours"),
        ("of a chat that is gone", CALL.chat_id, "done", "1 hour"),
        ("runs for long", chat.id, "running", "30 hours"),
    ]
    try:
        await connection.executemany(
            "INSERT INTO tool_calls (call_id, chat_id, epoch, state, host, created_at, "
            "finished_at) SELECT $1, $2, 1, $3, 'a', now() - $4::text::interval, "
            "CASE WHEN $3 = 'done' THEN now() - $4::text::interval END",
            rows,
        )
        async with open_database(database_url, size=2) as database:
            await Ledger(database).sweep()
        left = await connection.fetch("SELECT call_id FROM tool_calls ORDER BY call_id")
    finally:
        await connection.close()

    assert [row[0] for row in left] == ["kept", "runs for long"]
