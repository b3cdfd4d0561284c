"""`steersman migrate`: bring the database to the schema of the installed version."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from steersman import services
from steersman.datadir import VARIABLE, DataDir, InUse, data_dir, held
from steersman.embedded import postgres
from steersman.embedded.server import NotStarted


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=VARIABLE,
    show_envvar=True,
    help="The data directory whose embedded PostgreSQL is meant.",
)
def migrate(data: Path | None) -> None:
    """Apply the migrations that are missing, once, and say which.

    The database is the one in STEERSMAN_DATABASE_URL, or else the embedded one of the data
    directory, which is started for the occasion unless it runs. Services do the same when they
    start: this is for deployments that want it to be a step of its own.
    """
    try:
        with _database(data_dir(data)) as url:
            status = _run(url)
    except (postgres.PostgresUnusable, NotStarted, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(status)


@contextmanager
def _database(data: DataDir) -> Generator[str]:
    if url := os.environ.get("STEERSMAN_DATABASE_URL"):
        yield url
        return
    data.create()
    try:
        with held(data), _server(data) as server:
            yield server.dsn
    except InUse:
        yield postgres.dsn(data.postgres, data.postgres_password)


def _server(data: DataDir) -> postgres.PostgresServer:
    return postgres.PostgresServer(data.postgres, fast=False, password_file=data.postgres_password)


def _run(url: str) -> int:
    env = services.inherited("store", os.environ) | {"STEERSMAN_DATABASE_URL": url}
    argv = [sys.executable, "-P", "-m", "steersman_store", "migrate"]
    return subprocess.run(argv, env=env, check=False).returncode
