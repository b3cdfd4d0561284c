"""Providers: where models are served, and the secrets that open them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy
from msgspec import UNSET

from steersman_contracts import cloud_keys
from steersman_contracts.errors import Conflict, InvalidRequest, NotFound
from steersman_contracts.ids import ProviderId
from steersman_contracts.option_rules import parse_options
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import models as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import telling
from steersman_store.database import Database
from steersman_store.people import admins_only
from steersman_store.secrets import Vault

_PROVIDER: Final = (
    "id, type, display_name, base_url, api_key IS NOT NULL AS has_key, header_names, enabled, "
    "preset, version, region, project"
)
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]{0,8190}[\x21-\x7e])?")
_OF_THE_CONNECTION: Final = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to the HTTP client: another value would break or smuggle requests."""


def headers_purpose(provider_id: str) -> str:
    """What the headers of a provider are sealed for. No id has a `#`: see `Slug`."""
    return f"{provider_id}#headers"


def check_base_url(url: str | None) -> None:
    """Refuse what is no address of a server.

    Raises:
        InvalidRequest: It is not http or https, names no host, or has parts that do not belong.
    """
    if url is None:
        return
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise InvalidRequest("the base URL cannot be read", field="base_url") from None
    if not fits or len(url) > 500 or re.search(r"[\x00-\x20\x7f-\x9f\\]", url):
        raise InvalidRequest("the base URL must be http://… or https://…", field="base_url")
    if parts.username is not None or parts.password is not None:
        # It would be shown to everybody, and logged.
        raise InvalidRequest(
            "credentials do not belong into the base URL: use the key or a header", field="base_url"
        )
    if parts.query or parts.fragment:
        raise InvalidRequest("the base URL cannot have a query or fragment", field="base_url")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse extra headers that cannot be sent.

    Raises:
        InvalidRequest: A name or a value is not one; the field says which, the value is not shown.
    """
    seen: set[str] = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is no name of a header", field="headers")
        lower = name.lower()
        if lower in _OF_THE_CONNECTION:
            raise InvalidRequest(f"the header {name!r} is not for you to set", field="headers")
        if lower in seen:
            raise InvalidRequest(f"the header {name!r} is there twice", field=f"headers.{name}")
        seen.add(lower)
        if not _VALUE.fullmatch(value):
            raise InvalidRequest(
                f"the value of the header {name!r} is not 1 to 8192 visible ASCII characters",
                field=f"headers.{name}",
            )


def merge_headers(stored: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Add or replace headers, and remove those that are None; case does not matter."""
    gone = {name.lower() for name in changes}
    kept = {name: value for name, value in stored.items() if name.lower() not in gone}
    return kept | {name: value for name, value in changes.items() if value is not None}


class _Row(msgspec.Struct, frozen=True):
    """A provider as it is stored: secrets sealed."""

    type: rpc.ProviderType
    display_name: str
    base_url: str | None
    enabled: bool
    api_key: bytes | None = None
    headers: bytes | None = None
    header_names: list[str] = []
    region: str | None = None
    project: str | None = None

    def origin(self) -> tuple[str, ...]:
        """Whose server it is: secrets that were given for one do not go to another."""
        if self.base_url is None:
            return (self.type,)
        parts = urlsplit(self.base_url)
        return (parts.hostname or "", str(parts.port or ""))


def placed(row: _Row, key: str | None) -> _Row:
    """The row with where its cloud is to be found.

    Raises:
        InvalidRequest: That is not said, or said of what is no cloud.
    """
    if row.type not in cloud_keys.CLOUDS:
        for field, value in (("region", row.region), ("project", row.project)):
            if value is not None:
                raise InvalidRequest(f"a provider of type {row.type} has no {field}", field=field)
        return row
    if row.region is None:
        raise InvalidRequest(f"a provider of type {row.type} needs its region", field="region")
    if row.type == "anthropic-bedrock":
        if row.project is not None:
            raise InvalidRequest("Bedrock has no projects", field="project")
        return row
    project = row.project or cloud_keys.project_of(key)
    # Gemini alone can be called with a key that says itself whose it is.
    if project is None and (row.type == "anthropic-vertex" or cloud_keys.is_json(key)):
        raise InvalidRequest("the key does not say which project: give one", field="project")
    return msgspec.structs.replace(row, project=project)


class Providers:
    """The handlers of the group `models` that are about providers.

    Args:
        database: Holds them.
        vault: Seals their secrets.
        changed: Called after every change that may let more of them be called.
    """

    def __init__(self, database: Database, vault: Vault, changed: Callable[[], None]) -> None:
        self._database = database
        self._vault = vault
        self._changed = changed

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.LIST_PROVIDERS, self.list_providers)
        server.add(rpc.PUT_PROVIDER, telling(self.put_provider, self._changed))
        server.add(rpc.PATCH_PROVIDER, telling(self.patch_provider, self._changed))
        server.add(rpc.DELETE_PROVIDER, self.delete_provider)

    async def list_providers(self, _: rpc.ListProviders) -> rpc.ProviderList:
        rows = await self._database.rows(f"SELECT {_PROVIDER} FROM providers ORDER BY id")
        return rpc.ProviderList(tuple(_provider(row) for row in rows))

    async def put_provider(self, request: rpc.PutProvider) -> rpc.ProviderReply:
        admins_only(request.actor)
        async with self._database.transaction() as connection:
            before = await _lock(connection, request.id, request.version)
            wanted = _Row(
                request.type,
                request.display_name,
                request.base_url,
                request.enabled,
                region=request.region,
                project=request.project,
            )
            if before is not None:
                wanted = msgspec.structs.replace(
                    wanted,
                    api_key=before.api_key,
                    headers=before.headers,
                    header_names=before.header_names,
                )
            if request.api_key is not None:
                wanted = self._with_key(wanted, request.id, request.api_key)
            if request.headers is not None:
                wanted = self._with_headers(wanted, request.id, request.headers)
            return await self._write(connection, request.id, before, wanted)

    async def patch_provider(self, request: rpc.PatchProvider) -> rpc.ProviderReply:
        admins_only(request.actor)
        async with self._database.transaction() as connection:
            before = await _lock(connection, request.id, request.version)
            if before is None:
                raise _no_provider(request.id)
            wanted = msgspec.structs.replace(
                before,
                type=before.type if request.type is UNSET else request.type,
                display_name=(
                    before.display_name if request.display_name is UNSET else request.display_name
                ),
                base_url=before.base_url if request.base_url is UNSET else request.base_url,
                enabled=before.enabled if request.enabled is UNSET else request.enabled,
                region=before.region if request.region is UNSET else request.region,
                project=before.project if request.project is UNSET else request.project,
            )
            if request.api_key is not UNSET:
                wanted = self._with_key(wanted, request.id, request.api_key)
            if request.headers is not UNSET:
                stored = (
                    {}
                    if before.headers is None
                    else open_headers(self._vault, before.headers, request.id)
                )
                merged = merge_headers(stored, request.headers)
                wanted = self._with_headers(wanted, request.id, merged)
            return await self._write(connection, request.id, before, wanted)

    async def delete_provider(self, request: rpc.DeleteProvider) -> Nothing:
        admins_only(request.actor)
        gone = await self._database.value(
            "DELETE FROM providers WHERE id = $1 RETURNING id", request.id
        )
        if gone is None:
            raise _no_provider(request.id)
        return Nothing()

    def _with_key(self, row: _Row, provider_id: str, key: str | None) -> _Row:
        if key is None:
            return msgspec.structs.replace(row, api_key=None)
        key = cloud_keys.normal(row.type, key)
        if not _VALUE.fullmatch(key):
            raise InvalidRequest("the key is not visible ASCII characters", field="api_key")
        return msgspec.structs.replace(row, api_key=self._vault.seal(key, provider_id))

    async def _write(
        self,
        connection: PoolConnectionProxy[asyncpg.Record],
        provider_id: str,
        before: _Row | None,
        wanted: _Row,
    ) -> rpc.ProviderReply:
        key = None
        if wanted.type in cloud_keys.CLOUDS and wanted.api_key is not None:
            key = cloud_keys.normal(wanted.type, self._vault.open(wanted.api_key, provider_id))
        return await _write(connection, provider_id, before, placed(wanted, key))

    def _with_headers(self, row: _Row, provider_id: str, headers: Mapping[str, str]) -> _Row:
        check_headers(headers)
        if len(headers) > 32:
            raise InvalidRequest("at most 32 extra headers", field="headers")
        text = msgspec.json.encode(dict(headers)).decode()
        return msgspec.structs.replace(
            row,
            headers=self._vault.seal(text, headers_purpose(provider_id)) if headers else None,
            header_names=sorted(headers),
        )


def open_headers(vault: Vault, sealed: bytes, provider_id: str) -> dict[str, str]:
    """Decrypt the headers of a provider."""
    text = vault.open(sealed, headers_purpose(provider_id))
    return msgspec.json.decode(text, type=dict[str, str])


async def _lock(
    connection: PoolConnectionProxy[asyncpg.Record], provider_id: str, version: int | None
) -> _Row | None:
    row = await connection.fetchrow(
        "SELECT type, display_name, base_url, enabled, api_key, headers, header_names, region, "
        "project, version "
        "FROM providers WHERE id = $1 FOR UPDATE",
        provider_id,
    )
    if version is not None and (row is None or row["version"] != version):
        raise changed_meanwhile(None if row is None else row["version"])
    return None if row is None else _Row(*list(row.values())[:-1])


async def _write(
    connection: PoolConnectionProxy[asyncpg.Record],
    provider_id: str,
    before: _Row | None,
    wanted: _Row,
) -> rpc.ProviderReply:
    """Write a checked row."""
    check_base_url(wanted.base_url)
    if wanted.type == "openai-chat" and not wanted.base_url:
        raise InvalidRequest("a compatible server needs its base_url", field="base_url")
    if before is not None and before.origin() != wanted.origin():
        if wanted.api_key is not None and wanted.api_key is before.api_key:
            raise InvalidRequest("the stored key is for another server: give one", field="api_key")
        if wanted.headers is not None and wanted.headers is before.headers:
            raise InvalidRequest(
                "the stored headers are for another server: give them again", field="headers"
            )
    if before is not None and before.type != wanted.type:
        await _check_models(connection, provider_id, wanted.type)
    row = await connection.fetchrow(
        "INSERT INTO providers AS p (id, type, display_name, base_url, enabled, api_key, headers, "
        "header_names, region, project) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
        "ON CONFLICT (id) DO UPDATE SET type = $2, display_name = $3, base_url = $4, "
        "enabled = $5, api_key = $6, headers = $7, header_names = $8, region = $9, "
        "project = $10, preset = false, version = p.version + 1, updated_at = now(), "
        "unreached_since = CASE WHEN (p.type, p.base_url, p.region) IS DISTINCT FROM ($2, $4, $9) "
        "THEN now() ELSE p.unreached_since END "
        f"RETURNING {_PROVIDER}",
        provider_id,
        *msgspec.structs.astuple(wanted),
    )
    assert row is not None  # RETURNING of an upsert
    return rpc.ProviderReply(_provider(row))


async def _check_models(
    connection: PoolConnectionProxy[asyncpg.Record], provider_id: str, kind: rpc.ProviderType
) -> None:
    """The options of its models must be those of the wire format that it is to speak."""
    rows = await connection.fetch(
        "SELECT name, settings FROM models WHERE provider_id = $1 AND deleted_at IS NULL "
        "ORDER BY name",
        provider_id,
    )
    for row in rows:
        settings = msgspec.json.decode(row["settings"], type=JsonObject)
        try:
            parse_options(kind, settings.get("options", {}))
        except InvalidRequest as error:
            raise InvalidRequest(f"{row['name']}: {error}", field="type") from error


def changed_meanwhile(version: int | None) -> Conflict:
    """The error for a change that was made on an older version."""
    return Conflict(
        "somebody else has changed this meanwhile: read it again", field="version", version=version
    )


def _no_provider(provider_id: str) -> NotFound:
    return NotFound(f"no provider {provider_id!r}", provider_id=provider_id)


def _provider(row: asyncpg.Record) -> rpc.Provider:
    return rpc.Provider(
        id=ProviderId(row["id"]),
        type=row["type"],
        display_name=row["display_name"],
        base_url=row["base_url"],
        has_key=row["has_key"],
        enabled=row["enabled"],
        preset=row["preset"],
        header_names=tuple(row["header_names"]),
        version=row["version"],
        region=row["region"],
        project=row["project"],
    )
