"""Ways to take the disk, or the right to write, from a real PostgreSQL that goes on running."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg

from steersman.embedded.postgres import PostgresServer
from support.waiting import until

_GROWING: Final = ("outbox", "write_probe")
"""Every transition writes into the first of them, the probe of the store into the second."""


@asynccontextmanager
async def read_only(server: PostgresServer) -> AsyncGenerator[None]:
    """Every session of the server reads only, from its next transaction on.

    That is what a store meets whose PostgreSQL has become a standby: SQLSTATE 25006.
    """
    try:
        await _configure(server, "on")
        yield
    finally:
        await _configure(server, "off")


async def _configure(server: PostgresServer, value: str) -> None:
    _write_local_settings(server.home, f"default_transaction_read_only = {value}\n")
    os.kill(server.pid, signal.SIGHUP)
    connection = await asyncpg.connect(server.dsn)

    async def told() -> bool:
        return await connection.fetchval("SHOW default_transaction_read_only") == value

    try:
        await until(told)
    finally:
        await connection.close()


def _write_local_settings(home: Path, text: str) -> None:
    path = home / "data" / "postgresql.local.conf"
    path.write_text(text)
    path.chmod(0o644)  # as root, the server is somebody else


@asynccontextmanager
async def full_disk(server: PostgresServer, url: str) -> AsyncGenerator[None]:
    """The tables that grow are on a full disk.

    A small file system needs root and a mount, a limit of the process (`RLIMIT_FSIZE`) makes the
    kernel say EFBIG. So the files of the tables, which are empty, become links to `/dev/full`: the
    kernel then refuses to make them larger with ENOSPC, PostgreSQL says SQLSTATE 53100 as it does
    with a disk that is full, and anybody may do it. It ends as it does for administrators: there
    is room again, and PostgreSQL is not started anew.
    """
    await _renew_files(server, url, full=True)
    try:
        yield
    finally:
        await _renew_files(server, url, full=False)


async def _renew_files(server: PostgresServer, url: str, *, full: bool) -> None:
    connection = await asyncpg.connect(url)
    try:
        await until(lambda: _renewed(connection, server.home / "data", full=full))
    finally:
        await connection.close()


async def _renewed(
    connection: asyncpg.Connection[asyncpg.Record], data: Path, *, full: bool
) -> bool:
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE {', '.join(_GROWING)} IN ACCESS EXCLUSIVE MODE")
        if await connection.fetchval("SELECT EXISTS (SELECT 1 FROM outbox)"):
            return False  # the relay is at it
        await connection.execute(f"TRUNCATE {', '.join(_GROWING)}")
        for table in _GROWING if full else ():
            # New and empty, and nobody else can have opened it before the commit.
            path = data / await connection.fetchval("SELECT pg_relation_filepath($1)", table)
            assert path.stat().st_size == 0
            path.unlink()
            path.symlink_to("/dev/full")
    return True
