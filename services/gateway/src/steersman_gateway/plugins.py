"""Plugins over REST: what is in use and why others are not, their settings and their secrets."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, PathParameter

from steersman_contracts.rest import PluginSettingsBody, SecretBody
from steersman_contracts.rpc import plugins as rpc
from steersman_contracts.rpc.tools import (
    LIST_PLUGINS,
    RELOAD_PLUGINS,
    ListPlugins,
    PluginList,
    ReloadPlugins,
)
from steersman_gateway.auth import CurrentActor, requires_admin
from steersman_gateway.backend import Services
from steersman_gateway.problems import invalid

Q = TypeVar("Q", bound=msgspec.Struct)

PluginInPath = Annotated[str, PathParameter(description="The plugin, such as `files`.")]
KeyInPath = Annotated[str, PathParameter(description="The secret, such as `api_key`.")]


class PluginController(Controller):
    """What the tools service hosts. Admins only."""

    path = "/plugins"
    tags = ("Tools",)
    guards = (requires_admin,)

    @get("/", operation_id="listPlugins", summary="List plugins")
    async def list_plugins(self, actor: CurrentActor, backend: Services) -> PluginList:
        """Every plugin and tool host that was found, in use or not, and why. Admins only."""
        return await backend.call(LIST_PLUGINS, ListPlugins(actor))

    @post("/reload", operation_id="reloadPlugins", summary="Reload the plugins", status_code=200)
    async def reload(self, actor: CurrentActor, backend: Services) -> PluginList:
        """Load all plugins anew, on every replica. Running calls finish on the old code."""
        return await backend.call(RELOAD_PLUGINS, ReloadPlugins(actor))

    @put(
        "/{plugin:str}/settings",
        operation_id="putPluginSettings",
        summary="Store the settings of a plugin",
        status_code=204,
    )
    async def put_settings(
        self,
        plugin: PluginInPath,
        data: JSONBody[PluginSettingsBody],
        actor: CurrentActor,
        backend: Services,
    ) -> None:
        """Replace what is stored; used from the next reload on. The environment goes first."""
        request = _checked(rpc.PutSettings(actor, plugin, data.settings), "plugin")
        await backend.call(rpc.PUT_SETTINGS, request)

    @put(
        "/{plugin:str}/secrets/{key:str}",
        operation_id="putPluginSecret",
        summary="Store a secret of a plugin",
        status_code=204,
    )
    async def put_secret(
        self,
        plugin: PluginInPath,
        key: KeyInPath,
        data: JSONBody[SecretBody],
        actor: CurrentActor,
        backend: Services,
    ) -> None:
        """It is stored encrypted, goes to the plugin alone, and is never shown again."""
        request = _checked(rpc.PutSecret(actor, plugin, key, data.value), "key")
        await backend.call(rpc.PUT_SECRET, request)

    @delete(
        "/{plugin:str}/secrets/{key:str}",
        operation_id="deletePluginSecret",
        summary="Forget a secret of a plugin",
    )
    async def delete_secret(
        self, plugin: PluginInPath, key: KeyInPath, actor: CurrentActor, backend: Services
    ) -> None:
        """Done also when there is none."""
        request = _checked(rpc.PutSecret(actor, plugin, key, None), "key")
        await backend.call(rpc.PUT_SECRET, request)


def _checked(request: Q, field: str) -> Q:
    """The request, if the names from the path are names."""
    try:
        return msgspec.convert(msgspec.to_builtins(request), type(request))
    except msgspec.ValidationError as error:
        raise invalid(field, "not a name: letters, digits, `_`, `-` and `.`") from error
