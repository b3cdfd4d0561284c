"""What administrators have stored for plugins: the store keeps it, and this asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steersman_contracts.rpc import plugins as rpc
from steersman_runtime.rpc import RpcClient


class StoreBook:
    """Settings and secrets of the store."""

    def __init__(self, client: RpcClient) -> None:
        self._rpc = client

    async def settings(self, plugin: str) -> Mapping[str, Any]:
        reply = await self._rpc.call(rpc.READ_SETTINGS, rpc.ReadSettings(plugin))
        return reply.settings

    async def secret(self, plugin: str, name: str) -> str | None:
        return (await self._rpc.call(rpc.READ_SECRET, rpc.ReadSecret(plugin, name))).value


class EmptyBook:
    """Nothing is stored: for a host without a store."""

    async def settings(self, plugin: str) -> Mapping[str, Any]:
        del plugin
        return {}

    async def secret(self, plugin: str, name: str) -> str | None:
        del plugin, name
        return None
