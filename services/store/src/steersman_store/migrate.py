"""Bring a database to the schema of this code: numbered files once, functions when they changed."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Final, NamedTuple

import asyncpg
import structlog

from steersman_contracts.errors import InternalError, SteersmanError, Unavailable
from steersman_store import transitions
from steersman_store.database import message_of, ours

log = structlog.stdlib.get_logger()

_LOCK: Final = 0x5732_0001
"""Advisory lock: one process migrates, the others wait for it and find nothing left to do."""

_BOOK = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


_DROP = """
DO $$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN SELECT oid FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
            AND proname = ANY ('{{{names}}}')
    LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', old);
    END LOOP;
END $$;
"""


_GONE: Final = ("budgets_of", "finish_call", "open_cascades", "turn_spent")
"""Functions that files defined once: whoever takes one away, or renames it, adds it here."""


class MigrationFailed(SteersmanError):
    """The database was changed by other code than this, or a file cannot be applied."""

    code = "migration_failed"


class Script(NamedTuple):
    """One SQL file."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Hex SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def scripts(package: str) -> list[Script]:
    """The SQL files of `migrations` or `functions`, in order."""
    folder = resources.files(f"steersman_store.{package}")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Script(f.name, f.read_text(encoding="utf-8")) for f in files]


async def migrate(url: str) -> list[str]:
    """Apply what is missing, in one transaction for each file.

    Returns:
        The names of what was applied, empty when the database was up to date.

    Raises:
        MigrationFailed: An applied file has changed since, or one cannot be applied.
        Unavailable: The database cannot be reached, or takes no writes.
    """
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        reason = type(error).__name__
        raise Unavailable(
            f"the database cannot be reached: {reason}; STEERSMAN_DATABASE_URL says where it is"
        ) from error
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        return await _apply(connection)
    except asyncpg.PostgresError as error:
        raise ours(error) from error
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    await connection.execute(_BOOK)
    known = {
        row["name"]: row["checksum"]
        for row in await connection.fetch("SELECT name, checksum FROM schema_migrations")
    }
    applied: list[str] = []
    for script in scripts("migrations"):
        if script.name not in known:
            await _run(connection, script)
            applied.append(script.name)
        elif known[script.name] != script.checksum:
            raise MigrationFailed(
                f"{script.name} was applied with another content", name=script.name
            )
    functions = _all_functions()
    if known.get(functions.name) != functions.checksum:
        await _run(connection, functions)
        applied.append(functions.name)
    await _write_state_machine(connection)
    for name in applied:
        log.info("migration.applied", name=name)
    return applied


def _all_functions() -> Script:
    """All function files as one script, which replaces what it defines.

    A function whose parameters have changed would otherwise stay beside its successor, as an
    overload; one that no file defines any more would stay as well. Only names that files define or
    have defined are dropped: the schema may hold others' functions.
    """
    sql = "\n".join(script.sql for script in scripts("functions"))
    names = sorted(set(re.findall(r"^CREATE OR REPLACE FUNCTION (\w+)", sql, re.MULTILINE)))
    return Script("functions", _DROP.format(names=",".join((*names, *_GONE))) + sql)


async def _run(connection: asyncpg.Connection[asyncpg.Record], script: Script) -> None:
    try:
        async with connection.transaction():
            await connection.execute(script.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2) "
                "ON CONFLICT (name) DO UPDATE SET checksum = $2, applied_at = now()",
                script.name,
                script.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"{script.name}: {message_of(error)}", name=script.name) from None


async def _write_state_machine(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    table = transitions.rows()
    query = "SELECT archived, status, transition, next_status, next_with_backlog FROM state_machine"
    if {tuple(row) for row in await connection.fetch(query)} == set(table):
        return
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM state_machine")
            await connection.executemany(
                "INSERT INTO state_machine (archived, status, transition, next_status, "
                "next_with_backlog) VALUES ($1, $2, $3, $4, $5)",
                table,
            )
    except asyncpg.PostgresError as error:
        raise InternalError(f"the state machine cannot be written: {message_of(error)}") from None
