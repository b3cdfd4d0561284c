"""Models: what can answer, how it is called, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy
from msgspec import UNSET

from steersman_contracts.errors import InvalidRequest, NotFound
from steersman_contracts.ids import ModelName, ProviderId
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.option_rules import parse_settings
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc import models as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import telling
from steersman_store.database import Database, json_text
from steersman_store.people import admins_only
from steersman_store.price_list import PriceList, PriceQuery
from steersman_store.providers import changed_meanwhile

_MODEL: Final = (
    "m.name, m.provider_id, m.model_id, m.display_name, m.enabled, m.context_limit, "
    "m.max_output_tokens, m.tools, m.settings, m.prices_source, m.version, p.type, p.base_url, "
    "p.display_name AS provider, obstacle(m, p) AS obstacle, "
    "m.name = (SELECT preferred_model()) AS preferred"
)
_FROM: Final = "FROM models m JOIN providers p ON p.id = m.provider_id WHERE m.deleted_at IS NULL"
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def merge_patch(target: JsonObject, patch: JsonObject) -> JsonObject:
    """Apply a merge patch (RFC 7396): objects are merged, null removes, the rest replaces."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            nested = cast("JsonObject", below) if isinstance(below, dict) else {}
            merged[key] = merge_patch(nested, cast("JsonObject", value))
        else:
            merged[key] = value
    return merged


def checked(kind: rpc.ProviderType, settings: JsonObject, name: str) -> ModelSettings:
    """Check the settings of a model, and name the field that is wrong.

    Raises:
        InvalidRequest: They are not those of the wire format, or cannot be stored.
    """
    parsed = parse_settings(kind, settings)
    if _NUL.search(msgspec.json.encode(parsed)):
        # The database takes this JSON apart for the prices, and would trip over it.
        raise InvalidRequest("settings: NUL characters cannot be stored", field="settings")
    for field in ("fallbacks", "compaction_model"):
        if name in _named(parsed, field):
            raise InvalidRequest(
                f"settings.{field}: the model itself is not another one", field=f"settings.{field}"
            )
    return parsed


def _named(settings: ModelSettings, field: str) -> Sequence[str]:
    value: Any = getattr(settings, field)
    return [value] if isinstance(value, str) else value or ()


class Models:
    """The handlers of the group `models` that are about models.

    Args:
        database: Holds them.
        price_list: Knows what they cost.
        changed: Called after every change that may let more of them be called.
    """

    def __init__(
        self, database: Database, price_list: PriceList, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._price_list = price_list
        self._changed = changed

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.LIST_MODELS, self.list_models)
        server.add(rpc.PUT_MODEL, telling(self.put_model, self._changed))
        server.add(rpc.PATCH_MODEL, telling(self.patch_model, self._changed))
        server.add(rpc.DELETE_MODEL, self.delete_model)
        server.add(rpc.REFRESH_PRICES, self.refresh_prices)

    async def list_models(self, request: rpc.ListModels) -> rpc.ModelList:
        rows = await self._database.rows(f"SELECT {_MODEL} {_FROM} ORDER BY m.name")
        return rpc.ModelList(tuple(_model(row, request.actor) for row in rows))

    async def put_model(self, request: rpc.PutModel) -> rpc.ModelReply:
        admins_only(request.actor)
        name = f"{request.provider_id}/{request.model_id}"
        provider = await self._database.row(
            "SELECT type, base_url FROM providers WHERE id = $1", request.provider_id
        )
        if provider is None:
            raise NotFound(
                f"no provider {request.provider_id!r}",
                provider_id=request.provider_id,
                field="provider_id",
            )
        settings = checked(provider["type"], request.settings, name)
        source: str | None = "edited"
        if not request.settings.get("prices"):
            query = PriceQuery(provider["type"], provider["base_url"], request.model_id)
            found = await self._price_list.look_up([query])
            source = None if found is None else "list"  # None: looked up at the next start
            if found and found[0] is not None:
                settings = msgspec.structs.replace(settings, prices=found[0])
        async with self._database.transaction() as connection:
            await _lock(connection, name, request.version)
            await _check_names(connection, settings)
            if request.make_default:
                await _make_room(connection, enabled=request.enabled)
            await connection.execute(
                "INSERT INTO models AS m (name, provider_id, model_id, display_name, "
                "context_limit, max_output_tokens, enabled, is_default, tools, settings, "
                "prices_source) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) "
                "ON CONFLICT (name) DO UPDATE SET display_name = $4, context_limit = $5, "
                "max_output_tokens = $6, enabled = $7, is_default = m.is_default OR $8, "
                "tools = $9, settings = $10, prices_source = $11, preset = false, "
                "deleted_at = NULL, version = m.version + 1",
                name,
                request.provider_id,
                request.model_id,
                request.display_name or request.model_id,
                request.context_limit,
                request.max_output_tokens,
                request.enabled,
                request.make_default,
                request.tools,
                json_text(settings),
                source,
            )
            return await _reply(connection, name, request.actor)

    async def patch_model(self, request: rpc.PatchModel) -> rpc.ModelReply:
        admins_only(request.actor)
        async with self._database.transaction() as connection:
            row = await _lock(connection, request.name, request.version)
            if row is None or row["deleted_at"] is not None:
                raise _no_model(request.name)
            stored = msgspec.json.decode(row["settings"], type=JsonObject)
            text = row["settings"]
            if request.settings:
                merged = merge_patch(stored, request.settings)
                prices: Any = request.settings.get("prices")
                if isinstance(prices, dict) and "tiers" not in prices:
                    # Those were of the prices that are replaced.
                    merged["prices"].pop("tiers", None)
                settings = checked(row["type"], merged, request.name)
                await _check_names(connection, settings)
                text = json_text(settings)
            source = row["prices_source"]
            if "prices" in request.settings:
                source = "list" if request.settings["prices"] is None else "edited"
            enabled = row["enabled"] if request.enabled is UNSET else request.enabled
            if request.make_default:
                await _make_room(connection, enabled=enabled)
            await connection.execute(
                "UPDATE models SET display_name = $2, context_limit = $3, max_output_tokens = $4, "
                "enabled = $5, tools = $6, is_default = is_default OR $7, settings = $8, "
                "prices_source = $9, preset = false, version = version + 1 WHERE name = $1",
                request.name,
                row["display_name"] if request.display_name is UNSET else request.display_name,
                row["context_limit"] if request.context_limit is UNSET else request.context_limit,
                row["max_output_tokens"]
                if request.max_output_tokens is UNSET
                else request.max_output_tokens,
                enabled,
                row["tools"] if request.tools is UNSET else request.tools,
                request.make_default,
                text,
                source,
            )
            return await _reply(connection, request.name, request.actor)

    async def delete_model(self, request: rpc.DeleteModel) -> Nothing:
        admins_only(request.actor)
        gone = await self._database.value(
            "UPDATE models SET deleted_at = now(), is_default = false, preset = false, "
            "version = version + 1 WHERE name = $1 AND deleted_at IS NULL RETURNING name",
            request.name,
        )
        if gone is None:
            raise _no_model(request.name)
        return Nothing()

    async def refresh_prices(self, request: rpc.RefreshPrices) -> rpc.ModelList:
        admins_only(request.actor)
        names = await self._refresh("m.prices_source IS DISTINCT FROM 'edited'")
        rows = await self._database.rows(
            f"SELECT {_MODEL} {_FROM} AND m.name = ANY ($1) ORDER BY m.name", names
        )
        return rpc.ModelList(tuple(_model(row, request.actor) for row in rows))

    async def fill_prices(self) -> None:
        """Look up the prices of models that nobody has looked up yet: those of presets."""
        await self._refresh("m.prices_source IS NULL")

    async def _refresh(self, which: str) -> list[str]:
        rows = await self._database.rows(f"SELECT {_MODEL} {_FROM} AND {which}")
        found = await self._price_list.look_up(
            [PriceQuery(row["type"], row["base_url"], row["model_id"]) for row in rows]
        )
        if found is None:
            return []
        changed: list[str] = []
        for row, prices in zip(rows, found, strict=True):
            settings = msgspec.json.decode(row["settings"], type=ModelSettings)
            differs = prices is not None and prices != settings.prices
            if prices is not None and differs:
                settings = msgspec.structs.replace(settings, prices=prices)
            done = await self._database.value(
                "UPDATE models SET settings = $2, prices_source = 'list', version = version + $4 "
                "WHERE name = $1 AND version = $3 RETURNING name",
                row["name"],
                json_text(settings) if differs else row["settings"],
                row["version"],
                int(differs),
            )
            if done and differs:
                changed.append(row["name"])
        return changed


async def _lock(
    connection: PoolConnectionProxy[asyncpg.Record], name: str, version: int | None
) -> asyncpg.Record | None:
    row = await connection.fetchrow(
        "SELECT m.*, p.type FROM models m JOIN providers p ON p.id = m.provider_id "
        "WHERE m.name = $1 FOR UPDATE OF m",
        name,
    )
    if version is not None and (row is None or row["version"] != version):
        raise changed_meanwhile(None if row is None else row["version"])
    return row


async def _make_room(connection: PoolConnectionProxy[asyncpg.Record], *, enabled: bool) -> None:
    if not enabled:
        raise InvalidRequest("a disabled model cannot be the default", field="make_default")
    await connection.execute("UPDATE models SET is_default = false WHERE is_default")


async def _check_names(
    connection: PoolConnectionProxy[asyncpg.Record], settings: ModelSettings
) -> None:
    """Other models that the settings name must be there, or a typing error would go unnoticed."""
    for field in ("fallbacks", "compaction_model"):
        for name in _named(settings, field):
            if not await connection.fetchval(
                "SELECT true FROM models WHERE name = $1 AND deleted_at IS NULL", name
            ):
                raise InvalidRequest(
                    f"settings.{field}: there is no model {name!r}", field=f"settings.{field}"
                )


async def _reply(
    connection: PoolConnectionProxy[asyncpg.Record], name: str, actor: Actor
) -> rpc.ModelReply:
    row = await connection.fetchrow(f"SELECT {_MODEL} {_FROM} AND m.name = $1", name)
    assert row is not None  # just written
    return rpc.ModelReply(_model(row, actor))


def _no_model(name: str) -> NotFound:
    return NotFound(f"no model {name!r}", model=name)


def availability(obstacle: str | None, *, enabled: bool, provider: str) -> tuple[Any, str]:
    """In words for people: whether a model can be used, and why not."""
    match obstacle:
        case None:
            return "available", ""
        case "missing_key":
            return "missing_api_key", f"there is no API key for {provider}"
        case _:
            return "disabled", f"{provider} is disabled" if enabled else "the model is disabled"


def _model(row: asyncpg.Record, actor: Actor) -> rpc.Model:
    settings = msgspec.json.decode(row["settings"], type=ModelSettings)
    if actor.role != "admin":
        settings = msgspec.structs.replace(settings, options={})
    state, reason = availability(row["obstacle"], enabled=row["enabled"], provider=row["provider"])
    return rpc.Model(
        name=ModelName(row["name"]),
        provider_id=ProviderId(row["provider_id"]),
        model_id=row["model_id"],
        display_name=row["display_name"],
        enabled=row["enabled"],
        is_default=row["preferred"] or False,
        context_limit=row["context_limit"],
        max_output_tokens=row["max_output_tokens"],
        tools=row["tools"],
        availability=state,
        reason=reason,
        settings=settings,
        prices_edited=row["prices_source"] == "edited",
        version=row["version"],
    )
