"""How a service of Steersman runs: settings, logging, NATS and RPC, health, lifecycle."""

from __future__ import annotations

import sys
from importlib import import_module


def _leave_out_what_no_service_uses() -> None:
    """Load libraries without what they take along: a third of the start of a service."""
    # nats-py takes aiohttp along wherever it is installed, for NATS over WebSocket. We speak TCP.
    _import_without("nats.aio.transport", "aiohttp")
    # structlog draws tracebacks with rich, ours are plain; and it brings what Twisted logs with.
    _import_without("structlog", "rich", "twisted")


def _import_without(module: str, *others: str) -> None:
    """Import a module as if others were not installed; those that are loaded stay."""
    absent = [name for name in others if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # pyright: ignore[reportArgumentType]  # "not installed"
    try:
        import_module(module)
    finally:
        for name in absent:
            del sys.modules[name]


_leave_out_what_no_service_uses()
