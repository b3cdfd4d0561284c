"""`python -m steersman_tools` runs the service."""

from __future__ import annotations

from steersman_runtime.service import run_service
from steersman_tools.app import create_app
from steersman_tools.settings import Settings

if __name__ == "__main__":
    run_service("tools", Settings, create_app)
