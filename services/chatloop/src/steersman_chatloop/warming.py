"""Imports the SDKs of the providers that are configured, before the first turn needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from steersman_contracts.errors import SteersmanError
from steersman_contracts.rpc.worker import PROVIDER_TYPES, ListProviderTypes
from steersman_contracts.subjects import PROVIDERS_CHANGED
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient

log = structlog.stdlib.get_logger()

_AFTER_START_S: Final = 2.0
"""Other services start at the same time, and are waited for; an import keeps a core busy."""
_LOOK_AGAIN_S: Final = 30.0
"""What an admin changes is told at once, but nobody makes sure that it is heard."""


async def keep_warm(
    client: NatsClient,
    rpc: RpcClient,
    warm: Callable[[str], Awaitable[None]],
    *,
    after_s: float = _AFTER_START_S,
    look_again_s: float = _LOOK_AGAIN_S,
) -> None:
    """Import what the store's providers need, and what those need that come later, until cancelled.

    A turn that comes before waits for its own import as ever, and for no other.

    Args:
        client: Hears of changes.
        rpc: Asks the store.
        warm: Imports what a type of providers needs, if that is not done.
        after_s: Seconds before the first look, unless a change is heard of.
        look_again_s: Seconds between looks, unless a change is heard of.
    """
    changed = asyncio.Event()
    sid = client.listen(PROVIDERS_CHANGED, lambda _, __, ___, ____: changed.set())
    wait_s = after_s
    try:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await changed.wait()
            changed.clear()
            wait_s = look_again_s
            try:
                found = await rpc.call(PROVIDER_TYPES, ListProviderTypes())
            except SteersmanError as error:  # away, or older than the question: it only saves time
                log.debug("providers.not_asked_for", error_code=error.code)
                continue
            for provider_type in found.types:
                await warm(provider_type)
    finally:
        client.unlisten(sid)
