"""`python -m steersman_store` runs the service, `python -m steersman_store migrate` migrates."""

from __future__ import annotations

import asyncio
import sys

import msgspec
import structlog
from steersman_contracts.errors import SteersmanError
from steersman_runtime.logging import configure_logging
from steersman_runtime.service import run_service
from steersman_runtime.settings import Secret, load_settings

from steersman_store.app import create_app
from steersman_store.migrate import migrate
from steersman_store.settings import Settings


class _MigrateSettings(msgspec.Struct, frozen=True, kw_only=True):
    database_url: Secret


def _migrate() -> None:
    configure_logging("store")
    try:
        settings = load_settings(_MigrateSettings, "store")
        applied = asyncio.run(migrate(settings.database_url.reveal()))
    except SteersmanError as error:
        sys.stderr.write(f"migrate: {error}\n")
        sys.exit(1)
    structlog.stdlib.get_logger().info("migration.finished", applied=len(applied))


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate"]:
        _migrate()
    else:
        run_service("store", Settings, create_app)
