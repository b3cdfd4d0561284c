"""The settings of the desktop service."""

from __future__ import annotations

from steersman_runtime.settings import ServiceSettings


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """Read once, from the environment and the configuration file. Nothing of its own yet."""
