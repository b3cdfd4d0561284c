"""Functions in the database are those of the code that migrated it, and no others of ours."""

from __future__ import annotations

import asyncpg

from steersman_store.migrate import migrate

_OLD = """
CREATE FUNCTION finish_call(p_call text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION reserve_call(p_call text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION reserve_call_of_others(p_call text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
UPDATE schema_migrations SET checksum = 'of older code' WHERE name = 'functions';
"""
_LEFT = """
SELECT proname::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
    AND proname = ANY ('{finish_call,reserve_call,reserve_call_of_others}') ORDER BY 1
"""


async def test_overloads_and_functions_that_are_gone_are_dropped(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_OLD)

        applied = await migrate(database_url)

        left = [row["proname"] for row in await connection.fetch(_LEFT)]
    finally:
        await connection.close()
    assert applied == ["functions"]
    assert left == ["reserve_call", "reserve_call_of_others"]
