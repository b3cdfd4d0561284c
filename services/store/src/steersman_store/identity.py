"""People, their tokens, and how the first one gets in."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

from steersman_contracts.errors import NotFound, Unauthenticated
from steersman_contracts.ids import ModelName, UserId
from steersman_contracts.rpc import Actor, admin, identity
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database
from steersman_store.secrets import digest

_CODE_LIFETIME: Final = timedelta(minutes=15)
_BROWSER_LIFETIME: Final = timedelta(days=30)

_INSERT_TOKEN: Final = (
    "INSERT INTO tokens (digest, user_id, name, expires_at) VALUES ($1, $2, $3, $4)"
)


def new_token() -> str:
    """A token of 256 random bits; the prefix lets secret scanners find a leaked one."""
    return f"steersman_{secrets.token_urlsafe(32)}"


class Identities:
    """The handlers of the groups `identity` and `admin`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of these groups."""
        server.add(identity.AUTHENTICATE, self.authenticate)
        server.add(identity.REDEEM_SIGN_IN, self.redeem_sign_in)
        server.add(admin.BOOTSTRAP, self.bootstrap)

    async def authenticate(self, request: identity.Authenticate) -> identity.Identity:
        row = await self._database.row(
            "SELECT u.id::text AS id, u.name, u.role, u.created_at FROM tokens t "
            "JOIN users u ON u.id = t.user_id "
            "WHERE t.digest = $1 AND (t.expires_at IS NULL OR t.expires_at > now()) "
            "AND u.disabled_at IS NULL",
            request.token_digest,
        )
        if row is None:
            raise Unauthenticated("the token is not valid")
        user = identity.User(UserId(row["id"]), row["name"], row["role"], row["created_at"])
        return identity.Identity(Actor(user.id, user.role), user)

    async def redeem_sign_in(self, request: identity.RedeemSignIn) -> identity.NewToken:
        token = new_token()
        async with self._database.transaction() as connection:
            user_id = await connection.fetchval(
                "DELETE FROM sign_in_codes WHERE digest = $1 RETURNING "
                "CASE WHEN expires_at > now() THEN (SELECT u.id FROM users u "
                "WHERE u.id = user_id AND u.disabled_at IS NULL) END",
                request.code_digest,
            )
            if user_id is None:
                raise NotFound("the sign-in link was used already, or is too old")
            expires = datetime.now(UTC) + _BROWSER_LIFETIME
            await connection.execute(_INSERT_TOKEN, digest(token), user_id, "browser", expires)
        return identity.NewToken(token)

    async def bootstrap(self, request: admin.Bootstrap) -> admin.Bootstrapped:
        code = secrets.token_urlsafe(24)
        token: str | None = None
        async with self._database.transaction() as connection:
            user_id = await connection.fetchval(
                "INSERT INTO users (id, name, role) VALUES ($1, $2, 'admin') "
                "ON CONFLICT (name) DO UPDATE SET role = 'admin', disabled_at = NULL "
                "RETURNING id::text",
                uuid.uuid4(),
                request.name,
            )
            known = request.known_token_digest is not None and await connection.fetchval(
                "SELECT true FROM tokens WHERE digest = $1 AND user_id = $2 "
                "AND (expires_at IS NULL OR expires_at > now())",
                request.known_token_digest,
                user_id,
            )
            if not known:
                token = new_token()
                await connection.execute(_INSERT_TOKEN, digest(token), user_id, "operator", None)
            await connection.execute("DELETE FROM sign_in_codes WHERE expires_at < now()")
            await connection.execute(
                "INSERT INTO sign_in_codes (digest, user_id, expires_at) VALUES ($1, $2, $3)",
                digest(code),
                user_id,
                datetime.now(UTC) + _CODE_LIFETIME,
            )
            default = await connection.fetchval("SELECT preferred_model()")
        return admin.Bootstrapped(
            UserId(user_id), code, token, None if default is None else ModelName(default)
        )
