"""Runs the service; with `migrate` or `bootstrap`, does just that.

- `python -m steersman_store`: the service.
- `python -m steersman_store migrate`: brings the database to this version's schema.
- `python -m steersman_store bootstrap`: makes the first admin, and prints how to get in.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import structlog

from steersman_contracts.errors import SteersmanError
from steersman_contracts.rpc.admin import Bootstrap
from steersman_runtime.logging import configure_logging
from steersman_runtime.service import run_service
from steersman_runtime.settings import Secret, load_settings
from steersman_store.app import create_app
from steersman_store.database import open_database
from steersman_store.identity import Identities
from steersman_store.migrate import migrate
from steersman_store.settings import Settings


class _DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    database_url: Secret
    public_url: str = "http://127.0.0.1:8700"


async def _migrate(settings: _DatabaseSettings) -> None:
    applied = await migrate(settings.database_url.reveal())
    structlog.stdlib.get_logger().info("migration.finished", applied=len(applied))


async def _bootstrap(settings: _DatabaseSettings) -> None:
    async with open_database(settings.database_url.reveal(), size=2) as database:
        made = await Identities(database).bootstrap(Bootstrap())
    sys.stdout.write(f"sign in  {settings.public_url}/sign-in/{made.sign_in_code}  (once)\n")
    sys.stdout.write(f"token    {made.token}\n")


_COMMANDS = {"migrate": _migrate, "bootstrap": _bootstrap}


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    if not arguments:
        run_service("store", Settings, create_app)
        return
    command = _COMMANDS.get(arguments[0])
    if command is None or len(arguments) > 1:
        sys.stderr.write(f"store: commands are {', '.join(_COMMANDS)}\n")
        sys.exit(2)
    configure_logging("store")
    try:
        asyncio.run(command(load_settings(_DatabaseSettings, "store")))
    except SteersmanError as error:
        sys.stderr.write(f"{arguments[0]}: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
