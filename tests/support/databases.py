"""A database for each test, copied from a migrated template."""

from __future__ import annotations

import itertools
import os
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from steersman_store.migrate import migrate

_TEMPLATE = "migrated_template"
_numbers = itertools.count()


def url_of(dsn: str, name: str) -> str:
    """The same server, another database."""
    parts = urlsplit(dsn)
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, parts.fragment))


async def make_template(dsn: str) -> None:
    """Create and migrate the database that others are copied from."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    finally:
        await connection.close()
    await migrate(url_of(dsn, _TEMPLATE))


async def new_database(dsn: str) -> str:
    """Copy the template.

    Returns:
        The URL of the copy.
    """
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(dsn)
    try:
        # Half the work of the default, which writes every page to the log as well.
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
    finally:
        await connection.close()
    return url_of(dsn, name)


async def drop_database(dsn: str, url: str) -> None:
    """Drop a copy, with whatever is still connected to it.

    Not `WITH (FORCE)`: that is refused while an autovacuum worker is there, which is nobody's but a
    superuser's. A plain drop sends such a worker away by itself.
    """
    name = urlsplit(url).path[1:]
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = $1 AND usename = current_user",
            name,
        )
        await connection.execute(f"DROP DATABASE IF EXISTS {name}")
    finally:
        await connection.close()


async def expire_leases(database_url: str) -> None:
    """What time does, without waiting for it."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE leases SET expires_at = now() - interval '1 second'")
    finally:
        await connection.close()


async def overdue(connection: asyncpg.Connection, chat_id: str) -> None:
    """Let the turn of a chat have gone on for longer than it may: only such a turn pauses."""
    await connection.execute("UPDATE chats SET limits = '{\"wall_s\": 1}' WHERE id = $1", chat_id)
    await connection.execute(
        "UPDATE messages SET created_at = created_at - interval '1 minute' WHERE chat_id = $1",
        chat_id,
    )


async def reach_limit(database_url: str, chat_id: str) -> None:
    """The same, on a connection of its own."""
    connection = await asyncpg.connect(database_url)
    try:
        await overdue(connection, chat_id)
    finally:
        await connection.close()
