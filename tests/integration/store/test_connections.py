"""What the connections of a pool tell each other, and what asyncpg must go on doing for that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from steersman_store.connections import of_one_pool

_INQUIRIES = """
SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'WITH RECURSIVE typeinfo_tree%'
"""


@pytest_asyncio.fixture(loop_scope="module")
async def both(database_url: str) -> AsyncGenerator[tuple[Any, Any]]:
    """The two connections of a pool."""
    async with (
        asyncpg.create_pool(
            database_url, min_size=2, max_size=2, connection_class=of_one_pool()
        ) as pool,
        pool.acquire() as first,
        pool.acquire() as second,
    ):
        await first.execute("CREATE TYPE pair AS (name text, numbers bigint[])")
        yield first, second


async def test_one_connection_asks_for_a_type_and_all_know_it(both: tuple[Any, Any]) -> None:
    for connection in both:
        assert await connection.fetchval("SELECT $1::pair", ("a", [1, 2])) == ("a", [1, 2])

    assert [await connection.fetchval(_INQUIRIES) for connection in both] == [1, 0]


async def test_types_of_postgresql_itself_are_asked_for_once_in_a_process(
    both: tuple[Any, Any], database_url: str
) -> None:
    values = [uuid4(), uuid4()]
    assert await both[0].fetchval("SELECT $1::uuid[]", values) == values

    async with (
        asyncpg.create_pool(
            database_url, min_size=1, max_size=1, connection_class=of_one_pool()
        ) as other,
        other.acquire() as connection,
    ):
        assert await connection.fetchval("SELECT $1::uuid[]", values) == values
        assert await connection.fetchval(_INQUIRIES) == 0


async def test_a_type_made_anew_is_a_new_one(both: tuple[Any, Any]) -> None:
    for connection in both:
        assert await connection.fetchval("SELECT ROW('a', '{1}')::pair") == ("a", [1])

    await both[1].execute("DROP TYPE pair; CREATE TYPE pair AS (left_one int, right_one text)")

    for connection in both:
        assert await connection.fetchval("SELECT ROW(2, 'b')::pair AS remade") == (2, "b")


async def test_a_type_that_grew_is_learned_again(both: tuple[Any, Any]) -> None:
    for connection in both:
        assert await connection.fetchval("SELECT ROW('a', '{1}')::pair") == ("a", [1])

    await both[1].execute("ALTER TYPE pair ADD ATTRIBUTE more text")

    query = "SELECT ROW('a', '{1}', 'b')::pair AS grown"
    with pytest.raises(asyncpg.OutdatedSchemaCacheError):
        await both[0].fetchval(query)
    for connection in both:
        assert await connection.fetchval(query) == ("a", [1], "b")
