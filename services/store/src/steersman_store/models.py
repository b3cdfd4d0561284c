"""Providers and models: what admins configure, and what the environment presets."""

from __future__ import annotations

import asyncpg
import msgspec

from steersman_contracts.errors import Forbidden, InvalidRequest, NotFound
from steersman_contracts.ids import ModelName, ProviderId
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc import models as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database
from steersman_store.secrets import Vault

_PROVIDER = "id, type, display_name, base_url, api_key IS NOT NULL AS has_key, enabled, preset"
_MODEL = (
    "m.name, m.provider_id, m.model_id, m.display_name, m.enabled, m.is_default, m.context_limit, "
    "m.max_output_tokens, m.tools"
)


class Models:
    """The handlers of the group `models`."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.LIST_MODELS, self.list_models)
        server.add(rpc.LIST_PROVIDERS, self.list_providers)
        server.add(rpc.PUT_PROVIDER, self.put_provider)
        server.add(rpc.DELETE_PROVIDER, self.delete_provider)
        server.add(rpc.PUT_MODEL, self.put_model)

    async def list_models(self, _: rpc.ListModels) -> rpc.ModelList:
        rows = await self._database.rows(
            f"SELECT {_MODEL} FROM models m JOIN providers p ON p.id = m.provider_id "
            "WHERE m.enabled AND p.enabled ORDER BY m.name"
        )
        default = await self._database.value(
            "SELECT name FROM models m JOIN providers p ON p.id = m.provider_id "
            "WHERE m.enabled AND p.enabled ORDER BY is_default DESC, name LIMIT 1"
        )
        models = (_model(row) for row in rows)
        return rpc.ModelList(
            tuple(msgspec.structs.replace(m, is_default=m.name == default) for m in models)
        )

    async def list_providers(self, _: rpc.ListProviders) -> rpc.ProviderList:
        rows = await self._database.rows(f"SELECT {_PROVIDER} FROM providers ORDER BY id")
        return rpc.ProviderList(tuple(_provider(row) for row in rows))

    async def put_provider(self, request: rpc.PutProvider) -> rpc.ProviderReply:
        _admins_only(request.actor)
        if request.type == "openai-chat" and not request.base_url:
            raise InvalidRequest("a compatible server needs its base_url", field="base_url")
        sealed = None if request.api_key is None else self._vault.seal(request.api_key, request.id)
        row = await self._database.row(
            "INSERT INTO providers AS p (id, type, display_name, base_url, api_key, enabled) "
            "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET type = $2, "
            "display_name = $3, base_url = $4, api_key = coalesce($5, p.api_key), enabled = $6, "
            f"preset = false, updated_at = now() RETURNING {_PROVIDER}",
            request.id,
            request.type,
            request.display_name,
            request.base_url,
            sealed,
            request.enabled,
        )
        assert row is not None  # RETURNING of an upsert
        return rpc.ProviderReply(_provider(row))

    async def delete_provider(self, request: rpc.DeleteProvider) -> Nothing:
        _admins_only(request.actor)
        gone = await self._database.value(
            "DELETE FROM providers WHERE id = $1 RETURNING id", request.id
        )
        if gone is None:
            raise NotFound(f"no provider {request.id!r}", provider_id=request.id)
        return Nothing()

    async def put_model(self, request: rpc.PutModel) -> rpc.ModelReply:
        _admins_only(request.actor)
        async with self._database.transaction() as connection:
            if not await connection.fetchval(
                "SELECT true FROM providers WHERE id = $1 FOR SHARE", request.provider_id
            ):
                raise NotFound(
                    f"no provider {request.provider_id!r}",
                    provider_id=request.provider_id,
                    field="provider_id",
                )
            if request.make_default:
                await connection.execute("UPDATE models SET is_default = false WHERE is_default")
            row = await connection.fetchrow(
                "INSERT INTO models AS m (name, provider_id, model_id, display_name, "
                "context_limit, max_output_tokens, enabled, is_default, tools) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
                "ON CONFLICT (name) DO UPDATE SET display_name = $4, context_limit = $5, "
                "max_output_tokens = $6, enabled = $7, is_default = m.is_default OR $8, "
                f"tools = $9, preset = false RETURNING {_MODEL}",
                f"{request.provider_id}/{request.model_id}",
                request.provider_id,
                request.model_id,
                request.display_name or request.model_id,
                request.context_limit,
                request.max_output_tokens,
                request.enabled,
                request.make_default,
                request.tools,
            )
        assert row is not None  # RETURNING of an upsert
        return rpc.ModelReply(_model(row))


def _admins_only(actor: Actor) -> None:
    if actor.role != "admin":
        raise Forbidden("only an admin may change providers and models")


def _provider(row: asyncpg.Record) -> rpc.Provider:
    return rpc.Provider(
        id=ProviderId(row["id"]),
        type=row["type"],
        display_name=row["display_name"],
        base_url=row["base_url"],
        has_key=row["has_key"],
        enabled=row["enabled"],
        preset=row["preset"],
    )


def _model(row: asyncpg.Record) -> rpc.Model:
    return rpc.Model(
        name=ModelName(row["name"]),
        provider_id=ProviderId(row["provider_id"]),
        model_id=row["model_id"],
        display_name=row["display_name"],
        enabled=row["enabled"],
        is_default=row["is_default"],
        context_limit=row["context_limit"],
        max_output_tokens=row["max_output_tokens"],
        tools=row["tools"],
    )
