"""Rows written straight into Postgres, where the public API would take too long."""

from __future__ import annotations

import random
from typing import Final
from uuid import UUID

import asyncpg

from steersman_contracts import subjects
from steersman_contracts.ids import ChatId

_MESSAGES: Final = """
INSERT INTO messages (chat_id, role, content, size, revision, model, stop)
    SELECT $1, CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, content::json,
        octet_length(content), $3, CASE n % 2 WHEN 0 THEN $4 END, CASE n % 2 WHEN 0 THEN 'end' END
    FROM (
        SELECT n, json_build_array(json_build_object('type', 'text', 'text', format(
            'Message %s of a long conversation: about as much as people type at once, no more.', n
        )))::text AS content
        FROM generate_series(1, $2::integer) AS n
    ) AS said ORDER BY n
"""
_CHATS: Final = """
INSERT INTO chats (id, part, owner_id, title, model)
    SELECT id, part, (SELECT owner_id FROM chats WHERE id = $4), 'seeded', $3
    FROM unnest($1::uuid[], $2::smallint[]) AS seeded (id, part)
"""


def message_text(number: int) -> str:
    """What the seeded message says."""
    return (
        f"Message {number} of a long conversation: about as much as people type at once, no more."
    )


async def add_history(
    database: asyncpg.Connection, chat_id: str, messages: int, model: str
) -> None:
    """Give a resting chat so many earlier messages, user and assistant in turns."""
    async with database.transaction():
        revision = await database.fetchval(
            "UPDATE chats SET snapshot_version = snapshot_version + 1,"
            " history_version = snapshot_version + 1 WHERE id = $1 RETURNING snapshot_version",
            UUID(chat_id),
        )
        await database.execute(_MESSAGES, UUID(chat_id), messages, revision, model)
    await database.execute("ANALYZE messages")


async def add_chats(database: asyncpg.Connection, like: str, count: int, model: str) -> list[str]:
    """Make empty chats of the owner of the chat `like`."""
    ids = [UUID(int=random.getrandbits(128), version=4) for _ in range(count)]
    parts = [subjects.partition(ChatId(str(chat_id))) for chat_id in ids]
    await database.execute(_CHATS, ids, parts, model, UUID(like))
    return [str(chat_id) for chat_id in ids]
