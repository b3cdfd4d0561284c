"""What an edit keeps and what it ends, and in which order results of clients are stored."""

from __future__ import annotations

import json

import asyncpg
import pytest
from support.chat_sql import NO_WAITS, Case, ChatSql, Everything, said, text

from steersman_contracts.chats import Status

RUNNING = Case(Status.RUNNING, backlog=True)


async def edit(
    sql: ChatSql, chat_id: str, message_id: int, model: str | None = None
) -> asyncpg.Record:
    return await sql.call("edit_message", sql.user_id, chat_id, message_id, text("anew"), model)


async def newest_question(sql: ChatSql, chat_id: str) -> asyncpg.Record:
    row = await sql.connection.fetchrow(
        "SELECT * FROM messages WHERE chat_id = $1 AND role = 'user' AND deleted_at IS NULL "
        "ORDER BY id DESC LIMIT 1",
        chat_id,
    )
    assert row is not None
    return row


@pytest.mark.parametrize("visibility", ["both", "user"])
async def test_an_edit_is_seen_by_whoever_saw_the_message(sql: ChatSql, visibility: str) -> None:
    chat_id = await sql.made(RUNNING)
    old = await newest_question(sql, chat_id)
    await sql.connection.execute(
        "UPDATE messages SET visibility = $2 WHERE id = $1", old["id"], visibility
    )

    await edit(sql, chat_id, old["id"])

    new = await newest_question(sql, chat_id)
    assert (new["visibility"], new["content"]) == (visibility, text("anew"))
    assert new["id"] > old["id"]


async def test_an_edit_may_change_the_model_ends_the_queue_and_the_turn_before_it(
    sql: ChatSql,
) -> None:
    await sql.connection.execute(
        "INSERT INTO models (name, provider_id, model_id, display_name, max_output_tokens) "
        "VALUES ('demo/other', 'demo', 'other', 'Other', 1000)"
    )
    chat_id = await sql.made(RUNNING)
    question = await newest_question(sql, chat_id)
    former = await sql.fence(chat_id)
    tables = await Everything.of(sql.connection)
    before = await tables.sums(chat_id)
    with pytest.raises(asyncpg.PostgresError, match="no enabled model"):
        await edit(sql, chat_id, question["id"], "demo/none")
    assert await tables.sums(chat_id) == before

    reply = json.loads((await edit(sql, chat_id, question["id"], "demo/other"))["reply"])

    chat = await sql.row(chat_id)
    assert (chat["model"], chat["status"], chat["runner_id"]) == ("demo/other", "running", None)
    assert chat["queue_version"] == chat["history_version"] == chat["snapshot_version"]
    assert await sql.queued(chat_id) == []
    assert reply["delivery"] == "started"
    # The worker of the former turn has not heard of it yet.
    after = await tables.sums(chat_id)
    for late in (
        sql.call("commit_step", *former, said("late"), False),
        sql.call("end_turn", *former, said("late"), "finish_turn", "completed", False),
        sql.call("finish_error", *former, said("late"), '{"kind": "generic", "message": "x"}'),
    ):
        with pytest.raises(asyncpg.PostgresError, match="the chat has moved on"):
            await late
    assert await tables.sums(chat_id) == after


async def test_results_are_stored_in_the_order_of_the_calls(sql: ChatSql) -> None:
    """However the client sorts them, and wherever results of the server lie between."""
    chat_id = await sql.made(Case(Status.RUNNING))
    calls = ["a", "b", "c", "d"]
    ran = json.dumps(
        {"type": "tool-result", "call_id": "b", "tool": "t", "content": [], "is_error": False}
    )
    await sql.call(
        "enter_requires_action",
        *await sql.fence(chat_id),
        *(calls, ["t"] * 4, [None, ran, None, None], [None] * 4, "[]", 300.0),
        *NO_WAITS,
    )

    given = ["d", "a", "c"]
    await sql.call(
        "submit_tool_results",
        *(sql.user_id, chat_id, given, [text(f"of {one}") for one in given], [False] * 3),
    )

    stored = json.loads(
        await sql.connection.fetchval(
            "SELECT content FROM messages WHERE chat_id = $1 ORDER BY id DESC LIMIT 1", chat_id
        )
    )
    assert [result["call_id"] for result in stored] == calls
    words = [result["content"][0]["text"] for result in stored if result["content"]]
    assert words == ["of a", "of c", "of d"]
