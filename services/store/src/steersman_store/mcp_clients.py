"""Registrations at the sign-in servers of MCP servers; sealed, and used again while they do."""

from __future__ import annotations

import msgspec

from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import mcp_clients as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database
from steersman_store.secrets import Vault


class McpClients:
    """The methods of the group `mcp_book` that are about registrations."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.FIND_CLIENT, self.find)
        server.add(rpc.KEEP_CLIENT, self.keep)
        server.add(rpc.FORGET_CLIENT, self.forget)

    async def find(self, request: rpc.FindClient) -> rpc.FoundClient:
        # A secret that ends while somebody signs in is of no use to them.
        sealed: bytes | None = await self._database.value(
            "SELECT sealed FROM mcp_clients "
            "WHERE server_id = $1 AND issuer = $2 AND redirect_uri = $3 "
            "AND (proven OR created_at > now() - interval '10 minutes') "
            "AND (expires_at IS NULL OR expires_at > now() + interval '1 hour')",
            request.server_id,
            request.issuer,
            request.redirect_uri,
        )
        if sealed is None:
            return rpc.FoundClient()
        opened = self._vault.open(sealed, _purpose(request.server_id))
        return rpc.FoundClient(msgspec.json.decode(opened, type=rpc.Client))

    async def keep(self, request: rpc.KeepClient) -> Nothing:
        text = msgspec.json.encode(request.client).decode()
        await self._database.value(
            "INSERT INTO mcp_clients "
            "(server_id, issuer, redirect_uri, client_id, sealed, expires_at) "
            "SELECT id, $2, $3, $4, $5, now() + make_interval(secs => $6) "
            "FROM mcp_servers WHERE id = $1 "
            "ON CONFLICT (server_id, issuer, redirect_uri) DO UPDATE SET "
            "client_id = excluded.client_id, sealed = excluded.sealed, proven = false, "
            "expires_at = excluded.expires_at, created_at = now()",
            request.server_id,
            request.issuer,
            request.redirect_uri,
            request.client.client_id,
            self._vault.seal(text, _purpose(request.server_id)),
            request.expires_in_s,
        )
        return Nothing()

    async def forget(self, request: rpc.ForgetClient) -> Nothing:
        await self._database.value(
            "DELETE FROM mcp_clients WHERE server_id = $1 AND client_id = $2",
            request.server_id,
            request.client_id,
        )
        return Nothing()


def _purpose(server_id: str) -> str:
    return f"mcp-client:{server_id}"
