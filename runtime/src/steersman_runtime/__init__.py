"""How a service of Steersman runs: settings, logging, NATS and RPC, health, lifecycle."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def _leave_out_what_no_service_uses() -> None:
    """Load libraries without what they take along: a third of the start of a service."""
    # The command line of CEL, with a toolkit for terminals.
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
    # nats-py takes aiohttp along wherever it is installed, for NATS over WebSocket. We speak TCP.
    if "aiohttp" not in sys.modules:
        sys.modules["aiohttp"] = None  # pyright: ignore[reportArgumentType]  # "not installed"
        try:
            import_module("nats.aio.transport")
        finally:
            del sys.modules["aiohttp"]


_leave_out_what_no_service_uses()
