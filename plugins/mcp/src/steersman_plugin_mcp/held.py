"""The token of one person at one server, in every request; renewed by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import httpx2
import structlog

from steersman_contracts.errors import SteersmanError
from steersman_contracts.ids import UserId
from steersman_contracts.rpc import Method
from steersman_contracts.rpc import mcp as rpc
from steersman_contracts.rpc.caller import Caller, Q, R
from steersman_plugin_mcp.http import Reach
from steersman_plugin_mcp.oauth import Refused, SignInFailed, renew

log = structlog.stdlib.get_logger()

_EARLY_S: Final = 30.0
"""Seconds before its end at which a token counts as over."""
_WAIT_S: Final = 20.0
"""Seconds that somebody else may take to renew it."""
_POLL_S: Final = 0.1


class NoToken(httpx2.TransportError):
    """There is none; the text says what to do. A kind of error that the SDK knows."""


class HeldToken(httpx2.Auth):
    """Adds the token to requests, and gets a new one when it is over or refused."""

    def __init__(
        self, caller: Caller, server: rpc.OpenedServer, user_id: UserId, reach: Reach
    ) -> None:
        """Read nothing yet.

        Args:
            caller: Reaches the store.
            server: Where the token is for.
            user_id: Whose it is.
            reach: How to get to the sign-in server.
        """
        self._rpc = caller
        self._server = server
        self._user_id = user_id
        self._reach = reach
        self._token = ""
        self._generation = 0
        self._until = float("-inf")
        self._lock = asyncio.Lock()

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send the request with the token; if it is refused, once more with a new one."""
        used = await self._current()
        request.headers["authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == 401:
            await self._replace(used)
            request.headers["authorization"] = f"Bearer {self._token}"
            yield request

    async def _current(self) -> int:
        """Have a token that is not over; its generation."""
        if asyncio.get_running_loop().time() < self._until:
            return self._generation
        async with self._lock:
            if asyncio.get_running_loop().time() >= self._until:
                held = await self._get(None)
                if held.left_s is not None and held.left_s < _EARLY_S:
                    held = await self._newer(held.generation)
                self._take(held)
        return self._generation

    async def _replace(self, used: int) -> None:
        async with self._lock:
            if self._generation == used:
                self._take(await self._newer(used))

    async def _newer(self, generation: int) -> rpc.HeldTokens:
        """A token after that generation: renewed here, or by whoever was faster."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAIT_S
        while True:
            held = await self._get(generation)
            if held.generation != generation:
                return held
            if held.renew:
                await self._renew(held)
            elif loop.time() > until:
                raise NoToken("its sign-in is being renewed, and that takes too long")
            else:
                await asyncio.sleep(_POLL_S)  # another process does it; only the store can tell

    async def _renew(self, held: rpc.HeldTokens) -> None:
        assert held.tokens is not None  # looked at in `_get`
        server_id, generation = self._server.id, held.generation
        try:
            tokens, expires_in_s = await renew(held.tokens, self._reach)
        except SignInFailed as error:
            gone = isinstance(error, Refused)
            log.warning("mcp.renewal_failed", server=self._server.slug, for_good=gone)
            await self._call(
                rpc.END_TOKENS, rpc.EndTokens(server_id, self._user_id, generation, gone)
            )
            raise NoToken(self._again() if gone else f"its sign-in: {error}") from error
        await self._call(
            rpc.PUT_TOKENS,
            rpc.PutTokens(server_id, self._user_id, tokens, expires_in_s, generation),
        )

    async def _get(self, renew: int | None) -> rpc.HeldTokens:
        held = await self._call(
            rpc.GET_TOKENS, rpc.GetTokens(self._server.id, self._user_id, renew)
        )
        if held.tokens is None:
            raise NoToken(self._again())
        return held

    async def _call(self, method: Method[Q, R], request: Q) -> R:
        try:
            return await self._rpc.call(method, request, deadline_s=5)
        except SteersmanError as error:
            raise NoToken("its sign-in cannot be read now") from error

    def _take(self, held: rpc.HeldTokens) -> None:
        assert held.tokens is not None  # looked at in `_get`
        self._token, self._generation = held.tokens.access_token, held.generation
        # Read again now and then also if it is good for ever: somebody may have signed out.
        left_s = 300.0 if held.left_s is None else min(300.0, held.left_s - _EARLY_S)
        self._until = asyncio.get_running_loop().time() + max(1.0, left_s)

    def _again(self) -> str:
        return f"sign in again: steersman mcp login {self._server.slug}"
