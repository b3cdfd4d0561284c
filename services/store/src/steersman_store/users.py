"""Further people: admins add them, send them a sign-in link, and disable them."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from msgspec import UNSET

from steersman_contracts.errors import Conflict, NotFound
from steersman_contracts.ids import UserId
from steersman_contracts.rpc import users as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database
from steersman_store.people import admins_only
from steersman_store.secrets import digest

LINK_LIFETIME: Final = timedelta(hours=24)
"""Longer than the operator's own link: this one is sent to somebody."""
_USER: Final = "id::text AS id, name, role, created_at, disabled_at IS NOT NULL AS disabled"


class Users:
    """The handlers of the group `identity` that admins use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.CREATE_USER, self.create)
        server.add(rpc.LIST_USERS, self.list_users)
        server.add(rpc.UPDATE_USER, self.update)
        server.add(rpc.NEW_SIGN_IN, self.new_sign_in)

    async def create(self, request: rpc.CreateUser) -> rpc.SignIn:
        admins_only(request.actor)
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "INSERT INTO users (id, name, role) VALUES ($1, $2, $3) "
                f"ON CONFLICT (name) DO NOTHING RETURNING {_USER}",
                uuid.uuid4(),
                request.name,
                request.role,
            )
            if row is None:
                raise Conflict(f"there is somebody called {request.name!r}", field="name")
            return await _link(connection, _account(row))

    async def list_users(self, request: rpc.ListUsers) -> rpc.UserList:
        admins_only(request.actor)
        rows = await self._database.rows(f"SELECT {_USER} FROM users ORDER BY name")
        return rpc.UserList(tuple(_account(row) for row in rows))

    async def update(self, request: rpc.UpdateUser) -> rpc.UserReply:
        admins_only(request.actor)
        async with self._database.transaction() as connection:
            # One change at a time, or two admins could disable each other.
            await connection.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
            row = await connection.fetchrow(
                "UPDATE users SET role = coalesce($2, role), disabled_at = CASE "
                "WHEN $3::boolean IS NULL THEN disabled_at "
                "WHEN $3 THEN coalesce(disabled_at, now()) END "
                f"WHERE id = $1 RETURNING {_USER}",
                request.user_id,
                None if request.role is UNSET else request.role,
                None if request.disabled is UNSET else request.disabled,
            )
            if row is None:
                raise _nobody(request.user_id)
            if not await connection.fetchval(
                "SELECT true FROM users WHERE role = 'admin' AND disabled_at IS NULL LIMIT 1"
            ):
                raise Conflict("somebody must be left who is an admin", field="user_id")
            if row["disabled"]:
                await connection.execute(
                    "DELETE FROM sign_in_codes WHERE user_id = $1", request.user_id
                )
        return rpc.UserReply(_account(row))

    async def new_sign_in(self, request: rpc.NewSignIn) -> rpc.SignIn:
        admins_only(request.actor)
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                f"SELECT {_USER} FROM users WHERE id = $1 FOR UPDATE", request.user_id
            )
            if row is None:
                raise _nobody(request.user_id)
            if row["disabled"]:
                raise Conflict(f"{row['name']!r} is disabled", field="user_id")
            await connection.execute(
                "DELETE FROM sign_in_codes WHERE user_id = $1", request.user_id
            )
            return await _link(connection, _account(row))


async def _link(connection: PoolConnectionProxy[asyncpg.Record], user: rpc.Account) -> rpc.SignIn:
    code, expires = secrets.token_urlsafe(24), datetime.now(UTC) + LINK_LIFETIME
    await connection.execute(
        "INSERT INTO sign_in_codes (digest, user_id, expires_at) VALUES ($1, $2, $3)",
        digest(code),
        user.id,
        expires,
    )
    return rpc.SignIn(user, code, expires)


def _account(row: asyncpg.Record) -> rpc.Account:
    return rpc.Account(
        UserId(row["id"]), row["name"], row["role"], row["created_at"], row["disabled"]
    )


def _nobody(user_id: str) -> NotFound:
    return NotFound("there is no such user", user_id=user_id)
