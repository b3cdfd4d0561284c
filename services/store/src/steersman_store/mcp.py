"""MCP servers: who may see, change and use which. Their secrets are written here, never read out.

Only the tools service gets them, by methods of its own group.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
import structlog
from asyncpg.pool import PoolConnectionProxy

from steersman_contracts.errors import Conflict, Forbidden, InvalidRequest, NotFound
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc import mcp as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcer
from steersman_store.database import Database
from steersman_store.providers import changed_meanwhile, check_headers
from steersman_store.secrets import Vault

log = structlog.stdlib.get_logger()

_MAX_OWN: Final = 50
_MAX_SHARED: Final = 100

COLUMNS: Final = (
    "id::text, owner_id, slug, name, transport, url, command, auth, header, oauth_client_id, "
    "oauth_scope, secrets, header_names, env_names, allow, deny, availability, needs_approval, "
    "call_timeout_s, enabled, read_only, problem, version, created_at"
)
_LOGIN: Final = (
    "CASE WHEN s.auth <> 'oauth' THEN 'not_needed' "
    "ELSE coalesce((SELECT CASE WHEN i.expired THEN 'expired' ELSE 'done' END "
    "FROM mcp_sign_ins i WHERE i.server_id = s.id AND i.user_id = $1), 'needed') END AS login"
)


TRUSTED: Final = (
    "owner_id IS NULL OR (SELECT role FROM users u WHERE u.id = s.owner_id) = 'admin' AS trusted"
)


class Secrets(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is sealed of a server."""

    api_key: str | None = None
    headers: dict[str, str] = {}
    env: dict[str, str] = {}
    oauth_client_secret: str | None = None

    def __bool__(self) -> bool:
        return self != Secrets()


class _Described(msgspec.Struct, frozen=True):
    """A server without what only the database says, in the order of its columns."""

    slug: str
    name: str
    transport: rpc.McpTransport
    url: str | None
    command: tuple[str, ...]
    auth: rpc.McpAuth
    header: str
    oauth_client_id: str | None
    oauth_scope: str | None
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    availability: rpc.McpAvailability
    needs_approval: bool
    call_timeout_s: float
    enabled: bool
    read_only: tuple[str, ...]


def purpose(server_id: str) -> str:
    """What the secrets of a server are sealed for. The prefix is nobody else's."""
    return f"mcp:{server_id}"


class McpServers:
    """The handlers of the groups `mcp` and `mcp_book`, but for signing in."""

    def __init__(self, database: Database, vault: Vault, announcer: Announcer) -> None:
        self._database = database
        self._vault = vault
        self._announcer = announcer

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.LIST_MCP_SERVERS, self.list_servers)
        server.add(rpc.GET_MCP_SERVER, self.get)
        server.add(rpc.CREATE_MCP_SERVER, self.create)
        server.add(rpc.CHANGE_MCP_SERVER, self.change)
        server.add(rpc.DELETE_MCP_SERVER, self.delete)
        server.add(rpc.SERVERS_OF_CHAT, self.of_chat)
        server.add(rpc.OPEN_MCP_SERVER, self.open)
        server.add(rpc.REPORT_MCP_SERVER, self.report)

    async def list_servers(self, request: rpc.ListMcpServers) -> rpc.McpServerList:
        rows = await self._database.rows(
            f"SELECT {COLUMNS}, {_LOGIN} FROM mcp_servers s "
            "WHERE owner_id IS NULL OR owner_id = $1 ORDER BY owner_id IS NOT NULL, slug",
            request.actor.user_id,
        )
        return rpc.McpServerList(tuple(_server(row, request.actor) for row in rows))

    async def get(self, request: rpc.GetMcpServer) -> rpc.McpServer:
        row = await self._database.row(
            f"SELECT {COLUMNS}, {_LOGIN} FROM mcp_servers s "
            "WHERE id = $2 AND (owner_id IS NULL OR owner_id = $1)",
            request.actor.user_id,
            request.server_id,
        )
        if row is None:
            raise _no_server()
        return _server(row, request.actor)

    async def create(self, request: rpc.CreateMcpServer) -> rpc.McpServer:
        actor, wanted = request.actor, request.settings
        if request.shared and actor.role != "admin":
            raise Forbidden("only an admin may add a server for everybody")
        described = msgspec.convert(msgspec.structs.asdict(wanted), _Described)
        secrets = Secrets(
            wanted.api_key, wanted.headers or {}, wanted.env or {}, wanted.oauth_client_secret
        )
        _check(described, secrets, actor)
        owner = None if request.shared else actor.user_id
        async with self._database.transaction() as connection:
            await _check_room(connection, owner, described.slug)
            server_id: str = await connection.fetchval("SELECT gen_random_uuid()::text")
            row = await connection.fetchrow(
                "INSERT INTO mcp_servers AS s (slug, name, transport, url, command, auth, header, "
                "oauth_client_id, oauth_scope, allow, deny, availability, needs_approval, "
                "call_timeout_s, enabled, read_only, id, owner_id, secrets, header_names, "
                "env_names) VALUES "
                "($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, "
                f"$19, $20, $21, $22) RETURNING {COLUMNS}, {_LOGIN}",
                actor.user_id,
                *msgspec.structs.astuple(described),
                server_id,
                owner,
                self._sealed(secrets, server_id),
                sorted(secrets.headers),
                sorted(secrets.env),
            )
            assert row is not None  # RETURNING of an insert
            await _audit(connection, actor, "mcp_server.created", described.slug)
        return _server(row, actor)

    async def change(self, request: rpc.ChangeMcpServer) -> rpc.McpServer:
        actor = request.actor
        async with self._database.transaction() as connection:
            before = await _locked(connection, request.server_id, actor)
            if request.version is not None and before["version"] != request.version:
                raise changed_meanwhile(before["version"])
            given = {
                name: value
                for name, value in msgspec.structs.asdict(request.changes).items()
                if value is not msgspec.UNSET
            }
            old = msgspec.convert(dict(before), _Described)
            described = msgspec.convert(msgspec.structs.asdict(old) | given, _Described)
            kept = self._opened(before)
            secrets = _changed(kept, given)
            moved = _origin(old.url) != _origin(described.url)
            if moved:
                _check_not_carried_along(secrets, given)
            _check(described, secrets, actor)
            if described.slug != old.slug:
                await _check_slug(connection, before["owner_id"], described.slug)
            if moved or described.auth != old.auth:
                # A sign-in there is none here.
                await connection.execute(
                    "DELETE FROM mcp_sign_ins WHERE server_id = $1", request.server_id
                )
                await connection.execute(  # nor may one end here that was begun elsewhere
                    "DELETE FROM mcp_logins WHERE server_id = $1", request.server_id
                )
                await connection.execute(
                    "DELETE FROM mcp_clients WHERE server_id = $1", request.server_id
                )
            row = await connection.fetchrow(
                "UPDATE mcp_servers s SET slug = $2, name = $3, transport = $4, url = $5, "
                "command = $6, auth = $7, header = $8, oauth_client_id = $9, oauth_scope = $10, "
                "allow = $11, deny = $12, availability = $13, needs_approval = $14, "
                "call_timeout_s = $15, enabled = $16, read_only = $17, secrets = $19, "
                "header_names = $20, env_names = $21, problem = NULL, version = version + 1, "
                f"updated_at = now() WHERE id = $18 RETURNING {COLUMNS}, {_LOGIN}",
                actor.user_id,
                *msgspec.structs.astuple(described),
                request.server_id,
                self._sealed(secrets, request.server_id),
                sorted(secrets.headers),
                sorted(secrets.env),
            )
            assert row is not None  # it is locked
            await _audit(connection, actor, "mcp_server.changed", described.slug)
        return _server(row, actor)

    async def delete(self, request: rpc.DeleteMcpServer) -> Nothing:
        async with self._database.transaction() as connection:
            before = await _locked(connection, request.server_id, request.actor)
            await connection.execute("DELETE FROM mcp_servers WHERE id = $1", request.server_id)
            chats = await connection.fetch(
                "SELECT forget_mcp_server($1)::text AS id", request.server_id
            )
            await _audit(connection, request.actor, "mcp_server.deleted", before["slug"])
        for chat in chats:
            self._announcer.changed(ChatId(chat["id"]))
        return Nothing()

    async def of_chat(self, request: rpc.ServersOfChat) -> rpc.ChatServers:
        rows = await self._database.rows(
            "SELECT s.id::text, s.version, s.slug, "
            "CASE WHEN s.auth = 'oauth' THEN c.owner_id::text END, "
            "CASE WHEN s.auth <> 'oauth' THEN 'not_needed' WHEN i.expired THEN 'expired' "
            "WHEN i.user_id IS NULL THEN 'needed' ELSE 'done' END, s.owner_id IS NULL "
            "FROM chats c CROSS JOIN mcp_servers_of(c) s LEFT JOIN mcp_sign_ins i "
            "ON i.server_id = s.id AND i.user_id = c.owner_id WHERE c.id = $1",
            request.chat_id,
        )
        return rpc.ChatServers(tuple(rpc.ChatServer(*row) for row in rows))

    async def open(self, request: rpc.OpenMcpServer) -> rpc.OpenedServer:
        row = await self._database.row(
            f"SELECT {COLUMNS}, {TRUSTED} FROM mcp_servers s WHERE id = $1 AND enabled "
            "AND ($2::uuid IS NULL OR owner_id IS NULL OR owner_id = $2)",
            request.server_id,
            None if request.actor is None else request.actor.user_id,
        )
        if row is None or (row["transport"] == "stdio" and not row["trusted"]):
            raise _no_server()  # a process of somebody who was an admin once is not started
        return self.opened(row)

    def opened(self, row: asyncpg.Record) -> rpc.OpenedServer:
        """How to reach a server, of a row with `COLUMNS` and `TRUSTED`."""
        secrets = self._opened(row)
        return rpc.OpenedServer(
            id=row["id"],
            version=row["version"],
            slug=row["slug"],
            transport=row["transport"],
            trusted=row["trusted"],
            url=row["url"],
            command=tuple(row["command"]),
            env=secrets.env,
            headers=_headers(row["auth"], row["header"], secrets),
            oauth=row["auth"] == "oauth",
            oauth_client_id=row["oauth_client_id"],
            oauth_client_secret=secrets.oauth_client_secret,
            oauth_scope=row["oauth_scope"],
            allow=tuple(row["allow"]),
            deny=tuple(row["deny"]),
            read_only=tuple(row["read_only"]),
            needs_approval=row["needs_approval"],
            call_timeout_s=row["call_timeout_s"],
        )

    async def report(self, request: rpc.ReportMcpServer) -> Nothing:
        await self._database.value(
            "UPDATE mcp_servers SET problem = $3 WHERE id = $1 AND version = $2 "
            "AND problem IS DISTINCT FROM $3 AND ($4::uuid IS NULL OR owner_id = $4)",
            request.server_id,
            request.version,
            request.problem,
            request.account,
        )
        return Nothing()

    def _sealed(self, secrets: Secrets, server_id: str) -> bytes | None:
        if not secrets:
            return None
        return self._vault.seal(msgspec.json.encode(secrets).decode(), purpose(server_id))

    def _opened(self, row: asyncpg.Record) -> Secrets:
        if row["secrets"] is None:
            return Secrets()
        return msgspec.json.decode(
            self._vault.open(row["secrets"], purpose(row["id"])), type=Secrets
        )


def _check(wanted: _Described, secrets: Secrets, actor: Actor) -> None:
    """Refuse what is no description of a server.

    Raises:
        InvalidRequest: The field says what is wrong; no value of a secret is shown.
        Forbidden: It is a process, and the actor is no admin.
    """
    if wanted.transport == "stdio":
        if actor.role != "admin":
            raise Forbidden("only an admin may add servers that are processes")
        _check_process(wanted, secrets)
    else:
        _check_remote(wanted, secrets)
    check_headers(secrets.headers)
    if wanted.auth == "api_key":
        if secrets.api_key is None:
            raise InvalidRequest("it needs a key", field="api_key")
        try:
            check_headers({wanted.header: secrets.api_key})
        except InvalidRequest as error:
            field = "api_key" if "value" in str(error) else "header"
            raise InvalidRequest(str(error), field=field) from error
    elif secrets.api_key is not None:
        raise InvalidRequest("a key needs `auth` to be `api_key`", field="api_key")
    if wanted.auth == "headers" and not secrets.headers:
        raise InvalidRequest("it needs headers", field="headers")
    if wanted.auth != "headers" and secrets.headers:
        raise InvalidRequest("headers need `auth` to be `headers`", field="headers")
    if wanted.auth != "oauth" and secrets.oauth_client_secret is not None:
        raise InvalidRequest("that needs `auth` to be `oauth`", field="oauth_client_secret")


def _check_process(wanted: _Described, secrets: Secrets) -> None:
    if not wanted.command:
        raise InvalidRequest("a process needs a command", field="command")
    if wanted.url is not None:
        raise InvalidRequest("a process has no URL", field="url")
    if wanted.auth != "none":
        raise InvalidRequest("a process gets its secrets in `env`", field="auth")
    for name, value in secrets.env.items():
        if not name or "=" in name or "\0" in name + value or len(name) > 200:
            raise InvalidRequest(f"{name!r:.100} is no name of a variable", field="env")
        if len(value) > 8_192:
            raise InvalidRequest("a value has more than 8192 characters", field=f"env.{name}")


def _check_remote(wanted: _Described, secrets: Secrets) -> None:
    if wanted.url is None:
        raise InvalidRequest("where is it?", field="url")
    try:
        parts = urlsplit(wanted.url)
        fits = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits, parts = False, None
    if not fits or parts is None or not wanted.url.isprintable() or "\\" in wanted.url:
        raise InvalidRequest("the URL cannot be read", field="url")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("credentials do not belong into the URL: use `auth`", field="url")
    if parts.fragment:
        raise InvalidRequest("the URL cannot have a fragment", field="url")
    if wanted.command or secrets.env:
        field = "command" if wanted.command else "env"
        raise InvalidRequest("only a process has that", field=field)


def _changed(kept: Secrets, given: dict[str, Any]) -> Secrets:
    auth = given.get("auth")
    if auth is not None:  # secrets of another kind of proof go with it
        kept = Secrets(
            api_key=kept.api_key if auth == "api_key" else None,
            headers=kept.headers if auth == "headers" else {},
            env=kept.env,
            oauth_client_secret=kept.oauth_client_secret if auth == "oauth" else None,
        )
    new = {name: given[name] for name in Secrets.__struct_fields__ if name in given}
    for name in ("headers", "env"):
        if name in new and new[name] is None:
            new[name] = {}
    return msgspec.structs.replace(kept, **new)


def _check_not_carried_along(secrets: Secrets, given: dict[str, Any]) -> None:
    """Refuse to send secrets that were given for one server to another."""
    for name in ("api_key", "headers", "oauth_client_secret"):
        # What is left after the change: naming the same kind of proof again keeps them.
        if getattr(secrets, name) and name not in given:
            raise InvalidRequest("what is stored is for another server: give it again", field=name)


def _origin(url: str | None) -> tuple[str, str, str]:
    parts = urlsplit(url or "")
    return parts.scheme, parts.hostname or "", str(parts.port or "")


def _headers(auth: rpc.McpAuth, header: str, secrets: Secrets) -> dict[str, str]:
    if auth == "api_key" and secrets.api_key is not None:
        bearer = header.lower() == "authorization"
        return {header: f"Bearer {secrets.api_key}" if bearer else secrets.api_key}
    return secrets.headers if auth == "headers" else {}


async def _check_room(
    connection: PoolConnectionProxy[asyncpg.Record], owner: UserId | None, slug: str
) -> None:
    await _check_slug(connection, owner, slug)
    count: int = await connection.fetchval(
        "SELECT count(*) FROM mcp_servers WHERE owner_id IS NOT DISTINCT FROM $1", owner
    )
    limit = _MAX_SHARED if owner is None else _MAX_OWN
    if count >= limit:
        raise Conflict(f"there are {limit} servers already", maximum=limit)


async def _check_slug(
    connection: PoolConnectionProxy[asyncpg.Record], owner: UserId | None, slug: str
) -> None:
    """A slug is taken by one's own servers and by those of the deployment.

    If the deployment gets one later that somebody has already, theirs stays, and is not offered.
    """
    taken: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM mcp_servers WHERE slug = $2 "
        "AND (owner_id IS NULL OR owner_id = $1))",
        owner,
        slug,
    )
    if taken:
        raise Conflict(f"there is a server {slug!r} already", field="slug")


async def _locked(
    connection: PoolConnectionProxy[asyncpg.Record], server_id: str, actor: Actor
) -> asyncpg.Record:
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM mcp_servers WHERE id = $1 "
        "AND (owner_id IS NULL OR owner_id = $2) FOR UPDATE",
        server_id,
        actor.user_id,
    )
    if row is None:
        raise _no_server()
    if row["owner_id"] is None and actor.role != "admin":
        raise Forbidden("only an admin may change a server that is for everybody")
    return row


async def _audit(
    connection: PoolConnectionProxy[asyncpg.Record], actor: Actor, action: str, slug: str
) -> None:
    await connection.execute(
        "INSERT INTO audit (actor_id, action, details) VALUES ($1, $2, $3)",
        actor.user_id,
        action,
        msgspec.json.encode({"slug": slug}).decode(),
    )


def _no_server() -> NotFound:
    return NotFound("there is no such MCP server")


def _server(row: asyncpg.Record, actor: Actor) -> rpc.McpServer:
    return rpc.McpServer(
        id=row["id"],
        slug=row["slug"],
        name=row["name"],
        transport=row["transport"],
        shared=row["owner_id"] is None,
        created_at=row["created_at"],
        version=row["version"],
        url=row["url"],
        command=tuple(row["command"]) if actor.role == "admin" else (),
        auth=row["auth"],
        header=row["header"],
        header_names=tuple(row["header_names"]),
        env_names=tuple(row["env_names"]),
        has_secret=row["secrets"] is not None,
        oauth_client_id=row["oauth_client_id"],
        oauth_scope=row["oauth_scope"],
        allow=tuple(row["allow"]),
        deny=tuple(row["deny"]),
        availability=row["availability"],
        read_only=tuple(row["read_only"]),
        needs_approval=row["needs_approval"],
        call_timeout_s=row["call_timeout_s"],
        enabled=row["enabled"],
        login=row["login"],
        problem=row["problem"],
    )
