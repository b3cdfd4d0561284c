"""Settings and secrets of plugins: written by admins, read by the tools service."""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from steersman_contracts.errors import Forbidden, InvalidRequest
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc import plugins as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database
from steersman_store.secrets import Vault

log = structlog.stdlib.get_logger()

_MAX_SETTINGS_BYTES: Final = 64 << 10


class PluginBook:
    """The handlers of the groups `plugins` and `plugin_book`."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of these groups."""
        server.add(rpc.PUT_SETTINGS, self.put_settings)
        server.add(rpc.PUT_SECRET, self.put_secret)
        server.add(rpc.READ_SETTINGS, self.read_settings)
        server.add(rpc.READ_SECRET, self.read_secret)

    async def put_settings(self, request: rpc.PutSettings) -> Nothing:
        _admins_only(request.actor)
        encoded = msgspec.json.encode(request.settings)
        if len(encoded) > _MAX_SETTINGS_BYTES:
            raise InvalidRequest(
                f"the settings have {len(encoded)} bytes, more than {_MAX_SETTINGS_BYTES}",
                field="settings",
            )
        await self._database.value(
            "INSERT INTO plugin_settings (plugin, settings) VALUES ($1, $2) "
            "ON CONFLICT (plugin) DO UPDATE SET settings = $2, updated_at = now()",
            request.plugin,
            encoded.decode(),
        )
        return Nothing()

    async def put_secret(self, request: rpc.PutSecret) -> Nothing:
        _admins_only(request.actor)
        log.info(
            "secret.changed",
            plugin=request.plugin,
            name=request.name,
            user_id=request.actor.user_id,
            forgotten=request.value is None,
        )
        if request.value is None:
            await self._database.value(
                "DELETE FROM plugin_secrets WHERE plugin = $1 AND name = $2",
                request.plugin,
                request.name,
            )
            return Nothing()
        await self._database.value(
            "INSERT INTO plugin_secrets (plugin, name, sealed) VALUES ($1, $2, $3) "
            "ON CONFLICT (plugin, name) DO UPDATE SET sealed = $3, updated_at = now()",
            request.plugin,
            request.name,
            self._vault.seal(request.value, _purpose(request.plugin, request.name)),
        )
        return Nothing()

    async def read_settings(self, request: rpc.ReadSettings) -> rpc.StoredSettings:
        stored: str | None = await self._database.value(
            "SELECT settings::text FROM plugin_settings WHERE plugin = $1", request.plugin
        )
        if stored is None:
            return rpc.StoredSettings({})
        return rpc.StoredSettings(msgspec.json.decode(stored, type=JsonObject))

    async def read_secret(self, request: rpc.ReadSecret) -> rpc.StoredSecret:
        sealed: bytes | None = await self._database.value(
            "SELECT sealed FROM plugin_secrets WHERE plugin = $1 AND name = $2",
            request.plugin,
            request.name,
        )
        if sealed is None:
            return rpc.StoredSecret(None)
        return rpc.StoredSecret(self._vault.open(sealed, _purpose(request.plugin, request.name)))


def _purpose(plugin: str, name: str) -> str:
    # Neither holds a colon: no two pairs have the same purpose, and none is a provider's id.
    return f"plugin:{plugin}:{name}"


def _admins_only(actor: Actor) -> None:
    if actor.role != "admin":
        raise Forbidden("only an admin may change plugins")
