"""The connection to PostgreSQL: a pool, and the mapping of its errors to ours."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec
import structlog
from asyncpg.pool import PoolConnectionProxy

from steersman_contracts.errors import (
    Conflict,
    InternalError,
    InvalidRequest,
    SteersmanError,
    Unavailable,
    WireError,
    from_wire,
)
from steersman_store.connections import of_one_pool
from steersman_store.outages import UNWRITABLE, is_outage, sentence

log = structlog.stdlib.get_logger()

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

REFUSED: Final = "SM000"
"""The SQLSTATE of the SQL function `refuse`: an error of ours with its code in the detail."""
_QUERY_TIMEOUT_S: Final = 15.0
_PROBE: Final = b"\x00" * 7000
"""Nearly a page: a row of it has to be given room."""


class _Refusal(msgspec.Struct):
    code: str
    details: dict[str, Any] = {}


class Database:
    """A pool of connections. Every method maps errors; nothing else sees asyncpg's."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self._reachable = True
        self._unwritable: str | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with the database, as far as queries have shown; for readiness."""
        return self._unwritable if self._reachable else "does not answer"

    async def try_writing(self) -> None:
        """If the last writes were refused for want of a database that takes any, try one.

        Reads go on meanwhile, and tell nothing of that; nor may people write as long as this is
        not ready.
        """
        if self._unwritable is None:
            return
        async with self.transaction() as connection:
            await connection.executemany(
                "INSERT INTO write_probe (filler) VALUES ($1)", [(_PROBE,)] * 2
            )
            await connection.execute("TRUNCATE write_probe")
        self._unwritable = None
        log.info("database.writable")

    async def row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """Run one statement and return its first row."""
        async with self._errors():
            return await self._pool.fetchrow(query, *arguments)

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement and return all its rows."""
        async with self._errors():
            return await self._pool.fetch(query, *arguments)

    async def value(self, query: str, *arguments: object) -> Any:
        """Run one statement and return the first column of its first row."""
        async with self._errors():
            return await self._pool.fetchval(query, *arguments)

    async def raw(self, query: str, *arguments: object) -> msgspec.Raw:
        """Run one statement whose only value is JSON, and pass it on as it is."""
        text: str = await self.value(query, *arguments)
        return msgspec.Raw(text.encode())

    @asynccontextmanager
    async def transaction(
        self,
    ) -> AsyncGenerator[PoolConnectionProxy[asyncpg.Record]]:
        """Several statements that belong together; for what is not on the path of a turn."""
        async with self._errors(), self._pool.acquire() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[PoolConnectionProxy[asyncpg.Record]]:
        """One connection for longer, for session locks."""
        async with self._errors(), self._pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def _errors(self) -> AsyncGenerator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            await self._note(error.sqlstate or "")
            raise ours(error) from error
        except (
            OSError,
            TimeoutError,
            asyncpg.InterfaceError,
            # PostgreSQL said goodbye on a connection that was idle: the next query finds it odd.
            asyncpg.InternalClientError,
        ) as error:
            self._reachable = False
            log.warning("database.unreachable", error=type(error).__name__)
            raise Unavailable("the database does not answer") from error
        self._reachable = True

    async def _note(self, sqlstate: str) -> None:
        self._reachable = sqlstate in UNWRITABLE or not is_outage(sqlstate)
        if sqlstate not in UNWRITABLE:
            return
        self._unwritable = sentence(sqlstate)
        # After a failover the address leads to another server, but only new connections go there.
        await self._pool.expire_connections()


def message_of(error: asyncpg.PostgresError) -> str:
    """What PostgreSQL says, without the detail: that may show rows, and so what people wrote."""
    return str(error.message or error.args[0]).partition("\n")[0]


def ours(error: asyncpg.PostgresError) -> SteersmanError:
    """The error of ours that says the same."""
    state = error.sqlstate or ""
    if state == REFUSED:
        refusal = msgspec.json.decode(error.detail or "{}", type=_Refusal)
        return from_wire(WireError(refusal.code, str(error.message), refusal.details))
    if is_outage(state):
        log.warning("database.outage", sqlstate=state, error=message_of(error))
        return Unavailable(sentence(state), sqlstate=state)
    if state in ("40001", "40P01", "55P03"):
        return Unavailable("the database was busy with a conflicting change", sqlstate=state)
    if state == "23505":
        return Conflict("that exists already")
    if state.startswith("22"):  # data exceptions, also those that asyncpg finds by itself
        return InvalidRequest(f"the database cannot hold this value: {message_of(error)}")
    log.error("database.error", sqlstate=state, error=message_of(error))
    return InternalError("the database refused a statement; the log says why")


@asynccontextmanager
async def open_database(url: str, *, size: int) -> AsyncGenerator[Database]:
    """Open a pool; closing waits for running statements for a short while.

    Raises:
        Unavailable: The database cannot be reached.
    """
    # The pool prints a traceback for each attempt while PostgreSQL is away; our own line says it.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=min(2, size),
            max_size=size,
            command_timeout=_QUERY_TIMEOUT_S,
            connection_class=of_one_pool(),
            server_settings={
                "timezone": "UTC",
                "application_name": "steersman-store",
                # Nearly all statements find rows by their key: planning them anew, as is done for
                # the first five times on each connection, costs more than running them. Functions
                # with optional filters say otherwise themselves.
                "plan_cache_mode": "force_generic_plan",
            },
            max_inactive_connection_lifetime=300,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"the database cannot be reached: {type(error).__name__}") from error
    try:
        yield Database(pool)
    finally:
        try:
            await pool.close()
        except (
            OSError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ):
            pool.terminate()


def json_text(value: object) -> str:
    """Encode a value for a parameter of type json."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    return msgspec.json.encode(value).decode()
