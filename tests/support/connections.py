"""Connections to NATS that are nobody's in particular."""

from __future__ import annotations

from steersman_runtime.nats_client import NatsClient, connect


async def connected(nats_url: str) -> NatsClient:
    """Connect as a test; the caller closes it."""
    return await connect(nats_url, name="test", inbox_prefix="_INBOX_test", on_closed=lambda: None)
