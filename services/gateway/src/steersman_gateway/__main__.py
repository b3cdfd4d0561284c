"""`python -m steersman_gateway`."""

from steersman_gateway.app import create_app, tune_socket
from steersman_gateway.settings import Settings
from steersman_runtime.service import run_service

if __name__ == "__main__":
    run_service("gateway", Settings, create_app, tune_socket=tune_socket, websockets=True)
