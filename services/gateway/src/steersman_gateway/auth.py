"""Who is asking: a bearer token, or the cookie that a sign-in link left in a browser."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler

from steersman_contracts.errors import Forbidden, Unauthenticated
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.identity import AUTHENTICATE, Authenticate, Identity
from steersman_gateway.backend import Backend

Connection = ASGIConnection[Any, Any, Any, Any]
CurrentActor: TypeAlias = NamedDependency[Actor]

COOKIE: Final = "steersman_token"
KNOWN_S: Final = 10.0
"""How long a revoked token may still work here."""
UNKNOWN_S: Final = 2.0
_MAX_CACHED: Final = 10_000
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,512}")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def digest(secret: str) -> str:
    """Hex SHA-256: the only form in which a token or a code leaves this process."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Authenticator:
    """Asks the store who a token belongs to, and remembers the answer for a moment."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.known_s = KNOWN_S
        self.unknown_s = UNKNOWN_S
        self._known: OrderedDict[str, tuple[float, Identity | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Identity | None]] = {}

    async def identify(self, token: str) -> Identity:
        """Say whose token this is.

        Raises:
            Unauthenticated: Nobody's (any more).
        """
        key = digest(token)
        identity = await self._look_up(key)
        if identity is None:
            raise Unauthenticated("the token is not valid")
        return identity

    async def _look_up(self, key: str) -> Identity | None:
        now = asyncio.get_running_loop().time()
        expires, identity = self._known.get(key, (0.0, None))
        if now < expires:
            self._known.move_to_end(key)
            return identity
        # One question for all who wait, and none of them can cancel it for the others.
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._ask(key), name="authenticate")
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, key: str) -> Identity | None:
        identity: Identity | None = None
        with suppress(Unauthenticated):
            identity = await self._backend.call(AUTHENTICATE, Authenticate(key))
        keep_s = self.unknown_s if identity is None else self.known_s
        self._known[key] = (asyncio.get_running_loop().time() + keep_s, identity)
        self._known.move_to_end(key)
        while len(self._known) > _MAX_CACHED:
            self._known.popitem(last=False)
        return identity


def token_of(connection: Connection) -> str:
    """The token that a request carries.

    Raises:
        Unauthenticated: None, or something that cannot be one.
        Forbidden: It is a cookie, and the request may come from a page that is not ours.
    """
    header = connection.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
            raise Unauthenticated("the header Authorization must be `Bearer <token>`")
        return token
    token = connection.cookies.get(COOKIE, "")
    if not _TOKEN.fullmatch(token):
        raise Unauthenticated("a token is required: `Authorization: Bearer <token>`")
    scope: Any = connection.scope  # of HTTP: WebSockets have no method
    if scope["method"] not in _SAFE_METHODS and same_origin(connection) is not True:
        raise Forbidden("a request with a cookie must come from a page of this server")
    return token


def same_origin(connection: Connection) -> bool | None:
    """Whether a page of ours made the request, as the browser says; None when nothing says so."""
    site = connection.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = connection.headers.get("origin")
    if origin is None:
        return None
    # Hosts only: behind a proxy that ends TLS, our own scheme is another one.
    return urlsplit(origin).netloc == connection.headers.get("host")


async def requires_user(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: the request belongs to somebody; before a byte of its body is read."""
    authenticator: Authenticator = connection.app.state.service.authenticator
    connection.scope["user"] = await authenticator.identify(token_of(connection))


def requires_admin(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: and that somebody is an admin. The store checks again."""
    if connection.user.actor.role != "admin":
        raise Forbidden("only an admin may do that")


def provide_actor(request: Connection) -> Actor:
    """The person for whom everything is done."""
    return request.user.actor
