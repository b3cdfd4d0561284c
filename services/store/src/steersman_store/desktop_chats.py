"""Tells the desktop service which chats are no more, what desktop is whose, and what may run."""

from __future__ import annotations

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from steersman_contracts.errors import InvalidRequest, TooManyRequests
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor, Nothing
from steersman_contracts.rpc import desktop_chats as rpc
from steersman_contracts.rpc import desktop_servers as people
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database
from steersman_store.secrets import Vault


class DesktopChats:
    """Answers from the chats themselves: a service that missed the news hears it all the same."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer these methods of the group `desktop_chats`."""
        server.add(rpc.FIND_DELETED, self.find_deleted)
        server.add(rpc.FIND_DESKTOP, self.find)
        server.add(rpc.CLAIM_DESKTOP, self.claim)
        server.add(rpc.RENEW_DESKTOPS, self.renew)
        server.add(rpc.RELEASE_DESKTOP, self.release)

    async def find_deleted(self, request: rpc.FindDeleted) -> rpc.Deleted:
        rows = await self._database.rows(
            "SELECT asked.id FROM unnest($1::uuid[]) AS asked (id) "
            "WHERE NOT EXISTS (SELECT 1 FROM chats c WHERE c.id = asked.id)",
            list(request.chat_ids),
        )
        return rpc.Deleted(tuple(ChatId(str(row["id"])) for row in rows))

    async def find(self, request: rpc.FindDesktop) -> rpc.DesktopOf:
        row = await self._database.row("SELECT * FROM desktop_of($1)", request.chat_id)
        assert row is not None  # a function call always has a row
        return rpc.DesktopOf(
            ChatId(row["owner"]),
            tuple(map(ChatId, row["above"])),
            row["kind"],
            row["server"] or "",
        )

    async def claim(self, request: rpc.ClaimDesktop) -> Nothing:
        row = await self._database.row(
            "SELECT * FROM claim_desktop($1, $2, $3, $4)",
            request.chat_id,
            request.host,
            request.most,
            request.keep_s,
        )
        assert row is not None  # a function call always has a row
        if not row["claimed"]:
            raise TooManyRequests(
                f"the owner of this chat has {row['others']} desktops, which is the limit; stop "
                "one first",
                limit=request.most,
            )
        return Nothing()

    async def renew(self, request: rpc.RenewDesktops) -> Nothing:
        await self._database.row(
            "SELECT renew_desktops($1, $2, $3)",
            request.host,
            list(request.chat_ids),
            request.keep_s,
        )
        return Nothing()

    async def release(self, request: rpc.ReleaseDesktop) -> Nothing:
        await self._database.row(
            "DELETE FROM desktop_claims WHERE chat_id = $1 AND host = $2",
            request.chat_id,
            request.host,
        )
        return Nothing()


class DesktopServers:
    """VNC servers for the desktops of chats: the owner names one, the desktop service logs in."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(people.PUT_SERVER, self.put)
        server.add(people.GET_SERVER, self.get)
        server.add(people.DELETE_SERVER, self.delete)
        server.add(rpc.READ_SERVER, self.read)

    async def put(self, request: people.PutServer) -> people.DesktopServer:
        chat_id = request.chat_id
        async with self._database.transaction() as connection:
            await _lock(connection, request.actor, chat_id)
            before = await connection.fetchrow(
                "SELECT address, password FROM desktop_servers WHERE chat_id = $1", chat_id
            )
            password = request.password
            if password is None and before is not None and before["password"] is not None:
                # A password goes to the server that it was given for, and to no other.
                if before["address"] != request.address:
                    raise InvalidRequest(
                        "another address needs its password again; empty is none", field="password"
                    )
                password = self._vault.open(before["password"], _purpose(chat_id))
            sealed = self._vault.seal(password, _purpose(chat_id)) if password else None
            await connection.execute(
                "INSERT INTO desktop_servers (chat_id, address, password) VALUES ($1, $2, $3) "
                "ON CONFLICT (chat_id) DO UPDATE SET address = $2, password = $3, "
                "updated_at = now()",
                chat_id,
                request.address,
                sealed,
            )
            await _audit(connection, request.actor, chat_id, request.address)
        return people.DesktopServer(request.address, sealed is not None)

    async def get(self, request: people.OneServer) -> people.DesktopServer:
        row = await self._database.row(
            "SELECT s.address, s.password IS NOT NULL AS locked FROM read_chat($2, $1) c "
            "LEFT JOIN desktop_servers s ON s.chat_id = c.id",
            request.actor.user_id,
            request.chat_id,
        )
        assert row is not None  # or it was refused
        return people.DesktopServer(row["address"] or "", row["locked"])

    async def delete(self, request: people.OneServer) -> Nothing:
        async with self._database.transaction() as connection:
            await _lock(connection, request.actor, request.chat_id)
            gone = await connection.fetchval(
                "DELETE FROM desktop_servers WHERE chat_id = $1 RETURNING address", request.chat_id
            )
            if gone is not None:
                await _audit(connection, request.actor, request.chat_id, "")
        return Nothing()

    async def read(self, request: rpc.ReadServer) -> rpc.ServerSecret:
        row = await self._database.row(
            "SELECT address, password FROM desktop_servers WHERE chat_id = $1", request.chat_id
        )
        if row is None:
            return rpc.ServerSecret("")
        sealed: bytes | None = row["password"]
        password = "" if sealed is None else self._vault.open(sealed, _purpose(request.chat_id))
        return rpc.ServerSecret(row["address"], password)


def _purpose(chat_id: ChatId) -> str:
    # No id of a provider has a colon, and no plugin this prefix.
    return f"desktop-server:{chat_id}"


async def _lock(
    connection: PoolConnectionProxy[asyncpg.Record], actor: Actor, chat_id: ChatId
) -> None:
    locked = "SELECT next_status(lock_chat($1, $2), 'update')"
    await connection.fetchrow(locked, chat_id, actor.user_id)


async def _audit(
    connection: PoolConnectionProxy[asyncpg.Record],
    actor: Actor,
    chat_id: ChatId,
    address: str,
) -> None:
    await connection.execute(
        "INSERT INTO audit (actor_id, chat_id, action, details) "
        "VALUES ($1, $2, 'desktop.server_changed', $3)",
        actor.user_id,
        chat_id,
        msgspec.json.encode({"address": address}).decode(),
    )
