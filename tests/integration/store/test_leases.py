"""Leases beside transitions: whoever rests is held by nobody."""

from __future__ import annotations

import asyncio

import asyncpg
from support.chat_sql import RUNNER, ChatSql
from support.waiting import until

RENEW = "SELECT renew_leases($1, $2, 60)"
OF_CHAT = "SELECT count(*) FROM leases WHERE chat_id = $1 AND expires_at > clock_timestamp()"


async def test_a_renewal_does_not_bring_back_the_lease_of_a_turn_that_ends_meanwhile(
    sql: ChatSql, database_url: str
) -> None:
    chat_id = await sql.create("first")
    await sql.acquire(chat_id)
    worker = await asyncpg.connect(database_url)
    ending = sql.connection.transaction()
    await ending.start()
    await sql.finish(chat_id)

    renewal = asyncio.create_task(worker.fetchval(RENEW, RUNNER, [chat_id]))
    await until(lambda: _waits_for_a_lock(sql))
    await ending.commit()
    await renewal
    await worker.close()

    assert await sql.connection.fetchval(OF_CHAT, chat_id) == 0


async def test_leases_that_a_crash_took_are_made_again_but_for_turns_that_are_ending(
    sql: ChatSql, database_url: str
) -> None:
    ends, goes_on = await sql.create("first"), await sql.create("second")
    for chat_id in (ends, goes_on):
        await sql.acquire(chat_id)
    await sql.connection.execute("TRUNCATE leases")
    worker = await asyncpg.connect(database_url)

    async with sql.connection.transaction():
        await sql.finish(ends)
        await worker.execute("SET lock_timeout = '20s'")
        await worker.fetchval(RENEW, RUNNER, [ends, goes_on])
    await worker.close()

    counts = [await sql.connection.fetchval(OF_CHAT, chat_id) for chat_id in (ends, goes_on)]
    assert counts == [0, 1]


async def _waits_for_a_lock(sql: ChatSql) -> bool:
    found: int = await sql.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return found == 1
