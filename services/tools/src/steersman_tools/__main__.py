"""`python -m steersman_tools` runs the service."""

from __future__ import annotations

from steersman_runtime.service import run_service
from steersman_tools.app import create_app
from steersman_tools.sandbox import hide_from_commands
from steersman_tools.settings import Settings

if __name__ == "__main__":
    hide_from_commands()
    run_service("tools", Settings, create_app)
