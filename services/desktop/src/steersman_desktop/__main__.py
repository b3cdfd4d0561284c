"""`python -m steersman_desktop` runs the service."""

from __future__ import annotations

from steersman_desktop.app import create_app
from steersman_desktop.settings import Settings
from steersman_runtime.service import run_service

if __name__ == "__main__":
    run_service("desktop", Settings, create_app, websockets=True)
