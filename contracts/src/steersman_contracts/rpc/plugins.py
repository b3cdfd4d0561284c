"""What administrators store for plugins: settings, and secrets that are never shown again."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor, Method, Nothing

PluginName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$(?!\n)")]
SettingName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$(?!\n)")]
SecretValue = Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]


class PutSettings(msgspec.Struct, frozen=True):
    """Replace the stored settings of a plugin; used from its next load on. Admins only."""

    actor: Actor
    plugin: PluginName
    settings: JsonObject


class PutSecret(msgspec.Struct, frozen=True):
    """Store a secret of a plugin, encrypted; None forgets it. Admins only."""

    actor: Actor
    plugin: PluginName
    name: SettingName
    value: SecretValue | None


class ReadSettings(msgspec.Struct, frozen=True):
    """The stored settings; asked by the tools service."""

    plugin: str


class StoredSettings(msgspec.Struct, frozen=True):
    """Empty when none are stored."""

    settings: JsonObject


class ReadSecret(msgspec.Struct, frozen=True):
    """One secret in the clear; asked by the tools service alone."""

    plugin: str
    name: str


class StoredSecret(msgspec.Struct, frozen=True):
    """None when there is none."""

    value: str | None


PUT_SETTINGS: Final = Method("store", "plugins.put_settings", PutSettings, Nothing, safe=True)
PUT_SECRET: Final = Method("store", "plugins.put_secret", PutSecret, Nothing, safe=True)
READ_SETTINGS: Final = Method(
    "store", "plugin_book.settings", ReadSettings, StoredSettings, safe=True
)
READ_SECRET: Final = Method("store", "plugin_book.secret", ReadSecret, StoredSecret, safe=True)
