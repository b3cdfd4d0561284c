"""Connections of the pool: what asyncpg does for each of them is done once, or not at all.

This leans on private names of asyncpg 0.32, which is pinned; `test_connections.py` holds it to
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final, NamedTuple

import asyncpg

_FIRST_OF_OURS: Final = 16384
"""Object ids below are PostgreSQL's own types: the same in every database."""


class _Statement(NamedTuple):
    """What stands for the statement that asked for types; a name says: it is in nobody's way."""

    name: str = "known"


class Connection(asyncpg.Connection):
    """A connection that learns types from the others of its pool."""

    known: ClassVar[dict[frozenset[int], Any]]
    """Types that a connection of this pool has asked for."""
    _of_postgres: ClassVar[dict[frozenset[int], Any]] = {}

    # A pool resets each connection with a query when it comes back. No query of ours leaves
    # anything behind (no session settings, no cursors, no session locks), so it would be waste.
    def get_reset_query(self) -> str:
        return ""

    # For every array and composite each new connection runs a query that takes PostgreSQL 10 ms to
    # plan, while somebody waits. Types do not change under a pool: a migration makes new ones.
    async def _introspect_types(self, typeoids: Iterable[int], timeout: float) -> tuple[Any, Any]:
        asked = frozenset(typeoids)
        known = self._of_postgres if max(asked) < _FIRST_OF_OURS else self.known
        types = known.get(asked)
        if types is None:
            ask: Any = getattr(super(), "_introspect_types")  # noqa: B009  # not in the stubs
            types, statement = await ask(typeoids, timeout)
            known[asked] = types
            return types, statement
        return types, _Statement()

    # Called when PostgreSQL says that what we hold of a type is outdated.
    async def reload_schema_state(self) -> None:
        self.known.clear()
        await super().reload_schema_state()


def of_one_pool() -> type[Connection]:
    """A class whose connections share what they know, with nobody else."""
    return type("PoolConnection", (Connection,), {"known": {}})
