"""Imports the SDKs of the providers that are configured, before the first turn needs them."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from steersman_chatloop.providers.registry import Providers
from steersman_contracts.errors import SteersmanError
from steersman_contracts.rpc.worker import PROVIDER_TYPES, ListProviderTypes
from steersman_runtime.rpc import RpcClient

log = structlog.stdlib.get_logger()

_AFTER_START_S: Final = 2.0
"""Other services start at the same time, and are waited for; an import keeps a core busy."""
_LOOK_AGAIN_S: Final = 30.0
"""An admin may add a provider, which is then not used at once."""


async def keep_warm(
    rpc: RpcClient, providers: Providers, *, after_s: float = _AFTER_START_S
) -> None:
    """Import what the store's providers need, and what those need that come later, until cancelled.

    A turn that comes before waits for its own import as ever, and for no other.
    """
    await asyncio.sleep(after_s)
    while True:
        try:
            found = await rpc.call(PROVIDER_TYPES, ListProviderTypes())
        except SteersmanError as error:  # away, or older than the question: it only saves time
            log.debug("providers.not_asked_for", error_code=error.code)
        else:
            for provider_type in found.types:
                await providers.warm(provider_type)
        await asyncio.sleep(_LOOK_AGAIN_S)
