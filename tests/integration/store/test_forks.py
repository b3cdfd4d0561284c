"""A fork has the history in its order, wherever PostgreSQL keeps the rows."""

from __future__ import annotations

from support.chat_sql import Case, ChatSql

from steersman_contracts import subjects
from steersman_contracts.chats import Status
from steersman_store.chats import new_chat_id


async def roles(sql: ChatSql, chat_id: str) -> list[tuple[str, int]]:
    rows = await sql.connection.fetch(
        "SELECT role, revision FROM messages WHERE chat_id = $1 ORDER BY id", chat_id
    )
    return [(row["role"], row["revision"]) for row in rows]


async def test_a_fork_keeps_the_order_of_messages_that_lie_in_another_one(sql: ChatSql) -> None:
    chat_id = await sql.made(Case(Status.ERROR))
    await sql.send(chat_id, "third")
    original = await roles(sql, chat_id)
    assert [role for role, _ in original] == ["user", "assistant", "user", "user"]
    # Rewritten, the first one lies behind the others, as it might where rows were deleted.
    first, last = await sql.connection.fetchrow(
        "SELECT min(id), max(id) FROM messages WHERE chat_id = $1", chat_id
    ) or (0, 0)
    await sql.connection.execute("UPDATE messages SET size = size WHERE id = $1", first)
    for way in ("indexscan", "bitmapscan", "indexonlyscan"):
        await sql.connection.execute(f"SET enable_{way} = off")

    fork_id = new_chat_id()
    part = subjects.partition(fork_id)
    await sql.call("fork_chat", sql.user_id, chat_id, last, fork_id, part, "a fork", None)

    assert await roles(sql, fork_id) == original
