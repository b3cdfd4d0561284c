"""How containers are run here, from the settings."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit

from steersman_runtime.settings import BadSettings
from steersman_tools.containers import Ways
from steersman_tools.deputy_access import Keys
from steersman_tools.settings import Settings


def keys_of(settings: Settings) -> Keys | None:
    """Who signs what deputies may do; None without a secret.

    Raises:
        BadSettings: The secret is too short.
    """
    if settings.deputy_secret is None:
        return None
    try:
        return Keys(settings.deputy_secret.reveal())
    except ValueError as error:
        raise BadSettings(
            f"STEERSMAN_TOOLS_DEPUTY_SECRET: {error}", field="deputy_secret"
        ) from error


def ways_of(settings: Settings, keys: Keys | None) -> Ways:
    """How containers are run.

    Raises:
        BadSettings: The further options cannot be split.
    """
    try:
        options = shlex.split(settings.container_options)
    except ValueError as error:
        raise BadSettings(
            f"STEERSMAN_TOOLS_CONTAINER_OPTIONS: {error}", field="container_options"
        ) from error
    ours = settings.nats_url.reveal()
    return Ways(
        engine=settings.container_engine,
        image=settings.container_image,
        network=settings.container_network,
        nats_url=settings.container_nats_url or ours,
        keys=keys,
        locked=keys is None and urlsplit(ours.split(",")[0]).username is not None,
        directory=Path(settings.container_directory or settings.workspaces_dir).absolute(),
        options=options,
        start_s=settings.container_start_s,
        fetch_s=settings.container_fetch_s,
    )
