"""`python -m steersman_chatloop` runs the service."""

from steersman_chatloop.app import create_app
from steersman_chatloop.settings import Settings
from steersman_runtime.service import run_service

if __name__ == "__main__":
    run_service("chatloop", Settings, create_app)
