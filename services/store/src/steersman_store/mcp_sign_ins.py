"""What people hold at MCP servers: begun sign-ins, and tokens that one process at a time renews."""

from __future__ import annotations

from typing import Final

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import UserId
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import mcp as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database
from steersman_store.mcp import COLUMNS, TRUSTED, McpServers
from steersman_store.secrets import Vault

_RENEW_S: Final = 30.0
"""Seconds after which somebody who renews a token counts as dead."""
_MAX_LOGINS: Final = 20
"""Sign-ins that one person can have begun at a time."""


class McpSignIns:
    """The methods of the groups `mcp` and `mcp_book` that are about signing in."""

    def __init__(self, database: Database, vault: Vault, servers: McpServers) -> None:
        self._database = database
        self._vault = vault
        self._servers = servers

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.SIGN_OUT, self.sign_out)
        server.add(rpc.BEGIN_LOGIN, self.begin_login)
        server.add(rpc.TAKE_LOGIN, self.take_login)
        server.add(rpc.GET_TOKENS, self.get_tokens)
        server.add(rpc.PUT_TOKENS, self.put_tokens)
        server.add(rpc.END_TOKENS, self.end_tokens)

    async def begin_login(self, request: rpc.BeginLogin) -> Nothing:
        sealed = self._vault.seal(_text(request.pending), f"mcp-login:{request.state}")
        async with self._database.transaction() as connection:
            # Nobody sweeps this table: what is too old goes when something new comes.
            await connection.execute(
                "DELETE FROM mcp_logins WHERE expires_at < now() OR state IN ("
                "SELECT state FROM mcp_logins WHERE user_id = $1 "
                "ORDER BY expires_at DESC OFFSET $2)",
                request.user_id,
                _MAX_LOGINS - 1,
            )
            await connection.execute(
                "INSERT INTO mcp_logins (state, server_id, user_id, sealed, expires_at) "
                "VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))",
                request.state,
                request.server_id,
                request.user_id,
                sealed,
                request.valid_s,
            )
        return Nothing()

    async def take_login(self, request: rpc.TakeLogin) -> rpc.TakenLogin:
        row = await self._database.row(
            "WITH taken AS (DELETE FROM mcp_logins WHERE state = $1 AND user_id = $2 "
            "RETURNING server_id, sealed, expires_at) "
            f"SELECT {COLUMNS}, {TRUSTED}, t.sealed FROM taken t "
            "JOIN mcp_servers s ON s.id = t.server_id "
            "WHERE t.expires_at > now() AND s.enabled AND s.auth = 'oauth'",
            request.state,
            request.user_id,
        )
        if row is None:
            raise NotFound("this sign-in was not begun by you, is over, or took too long")
        pending = msgspec.json.decode(
            self._vault.open(row["sealed"], f"mcp-login:{request.state}"), type=rpc.PendingLogin
        )
        return rpc.TakenLogin(self._servers.opened(row), pending)

    async def get_tokens(self, request: rpc.GetTokens) -> rpc.HeldTokens:
        async with self._database.transaction() as connection:
            row = await _locked(connection, request.server_id, request.user_id)
            if row is None or row["expired"]:
                return rpc.HeldTokens(None)
            renews = request.renew == row["generation"] and not row["renewing"]
            if renews:
                await connection.execute(
                    "UPDATE mcp_sign_ins SET renewing_until = now() + make_interval(secs => $3) "
                    "WHERE server_id = $1 AND user_id = $2",
                    request.server_id,
                    request.user_id,
                    _RENEW_S,
                )
        purpose = _purpose(request.server_id, request.user_id)
        tokens = msgspec.json.decode(self._vault.open(row["sealed"], purpose), type=rpc.Tokens)
        return rpc.HeldTokens(tokens, row["generation"], row["left_s"], renews)

    async def put_tokens(self, request: rpc.PutTokens) -> Nothing:
        purpose = _purpose(request.server_id, request.user_id)
        sealed = self._vault.seal(_text(request.tokens), purpose)
        if request.generation is None:
            query = (
                "INSERT INTO mcp_sign_ins AS i (server_id, user_id, sealed, expires_at) "
                "VALUES ($1, $2, $3, now() + make_interval(secs => $4)) "
                "ON CONFLICT (server_id, user_id) DO UPDATE SET sealed = $3, "
                "expires_at = excluded.expires_at, generation = i.generation + 1, "
                "renewing_until = NULL, expired = false"
            )
        else:
            # Who signed in again meanwhile has better ones.
            query = (
                "UPDATE mcp_sign_ins SET sealed = $3, generation = generation + 1, "
                "expires_at = now() + make_interval(secs => $4), renewing_until = NULL, "
                "expired = false WHERE server_id = $1 AND user_id = $2 AND generation = $5"
            )
        arguments = (request.server_id, request.user_id, sealed, request.expires_in_s)
        more = () if request.generation is None else (request.generation,)
        async with self._database.transaction() as connection:
            await connection.execute(query, *arguments, *more)
            if request.generation is None:
                await connection.execute(
                    "UPDATE mcp_clients SET proven = true WHERE server_id = $1 AND client_id = $2",
                    request.server_id,
                    request.tokens.client_id,
                )
        return Nothing()

    async def end_tokens(self, request: rpc.EndTokens) -> Nothing:
        await self._database.value(
            "UPDATE mcp_sign_ins SET renewing_until = NULL, expired = $4 "
            "WHERE server_id = $1 AND user_id = $2 AND generation = $3",
            request.server_id,
            request.user_id,
            request.generation,
            request.expired,
        )
        if request.expired:
            # Perhaps it is we who are not known there any more: the next sign-in registers anew.
            await self._database.value(
                "DELETE FROM mcp_clients WHERE server_id = $1", request.server_id
            )
        return Nothing()

    async def sign_out(self, request: rpc.SignOut) -> rpc.McpServer:
        await self._database.value(
            "DELETE FROM mcp_sign_ins WHERE server_id = $1 AND user_id = $2",
            request.server_id,
            request.actor.user_id,
        )
        # Also for who cannot get in: their next sign-in begins from nothing.
        await self._database.value(
            "DELETE FROM mcp_clients c USING mcp_servers s WHERE c.server_id = $1 "
            "AND s.id = c.server_id AND (s.owner_id IS NULL OR s.owner_id = $2)",
            request.server_id,
            request.actor.user_id,
        )
        return await self._servers.get(rpc.GetMcpServer(request.actor, request.server_id))


async def _locked(
    connection: PoolConnectionProxy[asyncpg.Record], server_id: str, user_id: UserId
) -> asyncpg.Record | None:
    return await connection.fetchrow(
        "SELECT sealed, generation, expired, extract(epoch FROM expires_at - now())::float8 "
        "AS left_s, coalesce(renewing_until > now(), false) AS renewing FROM mcp_sign_ins "
        "WHERE server_id = $1 AND user_id = $2 FOR UPDATE",
        server_id,
        user_id,
    )


def _purpose(server_id: str, user_id: str) -> str:
    return f"mcp-tokens:{server_id}:{user_id}"


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
