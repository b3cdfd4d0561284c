"""One request and its answer, repeated where that is harmless."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from steersman.client.backoff import Backoff
from steersman.client.problems import (
    ApiProblem,
    ClientError,
    UnexpectedAnswer,
    Unreachable,
    read_problem,
)

T = TypeVar("T")

_TIMEOUT: Final = httpx2.Timeout(30.0, connect=5.0)
_PASSING: Final = frozenset({502, 503, 504})
"""Statuses after which asking again may help."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Exchange:
    """The connections to one gateway, in the name of one user."""

    def __init__(
        self, url: str, token: str, *, patience_s: float, verify: ssl.SSLContext | bool
    ) -> None:
        self.url = base_url(url)
        self.patience_s = patience_s
        self.http = httpx2.AsyncClient(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {token}", "User-Agent": "steersman-client"},
            timeout=_TIMEOUT,
            # Without TLS nothing is verified; reading the authorities would take 50 ms.
            verify=verify if self.url.startswith("https:") else False,
            # A proxy of the environment is not meant for this very machine.
            trust_env=httpx2.URL(self.url).host not in _LOOPBACK,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.http.aclose()

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: msgspec.Struct | None = None,
    ) -> httpx2.Request:
        """Build a request; what is None in the query is left out."""
        return self.http.build_request(
            method,
            path,
            # None and not {}, which would take away the query that the path may have.
            params={key: value for key, value in (query or {}).items() if value is not None}
            or None,
            content=None if body is None else msgspec.json.encode(body),
            headers=None if body is None else {"Content-Type": "application/json"},
        )

    async def get(self, path: str, kind: type[T], **query: object) -> T:
        """Ask for something."""
        return await self._call(self.request("GET", path, query), kind, repeatable=True)

    async def call(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: msgspec.Struct | None = None,
        *,
        repeatable: bool = False,
    ) -> T:
        """Change something. `repeatable`: doing it twice is the same as doing it once."""
        request = self.request(method, path, body=body)
        return await self._call(request, kind, repeatable=repeatable)

    async def put(self, path: str, body: msgspec.Struct) -> None:
        """Replace something; there is no answer but that it was done."""
        await self._send(self.request("PUT", path, body=body))

    async def read(self, path: str) -> bytes:
        """Ask for bytes."""
        return await self._send(self.request("GET", path))

    async def upload(
        self, path: str, kind: type[T], content: bytes, *, method: str = "POST", **query: str
    ) -> T:
        """Send bytes as they are."""
        request = self.http.build_request(method, path, params=query or None, content=content)
        return await self._call(request, kind, repeatable=False)

    async def delete(self, path: str) -> None:
        """Remove something."""
        await self._send(self.request("DELETE", path))

    async def _call(self, request: httpx2.Request, kind: type[T], *, repeatable: bool) -> T:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + (self.patience_s if repeatable else 0.0)
        backoff = Backoff()
        while True:
            try:
                content = await self._send(request)
                break
            except ClientError as error:
                hint = error.retry_after_s if isinstance(error, ApiProblem) else None
                wait_s = backoff.next_s(hint)
                if not _may_pass(error) or loop.time() + wait_s > give_up_at:
                    raise
            await asyncio.sleep(wait_s)
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise UnexpectedAnswer(f"the answer is not a {kind.__name__}: {error}") from error

    async def _send(self, request: httpx2.Request) -> bytes:
        try:
            response = await self.http.send(request)
        except (httpx2.TransportError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"nothing answers at {self.url} ({reason})") from error
        if response.status_code >= 400:
            wait = response.headers.get("retry-after")
            raise read_problem(response.status_code, response.content, wait)
        return response.content


def base_url(url: str) -> str:
    """The address without what people like to copy along."""
    return url.strip().rstrip("/").removesuffix("/api/v1").rstrip("/")


def _may_pass(error: ClientError) -> bool:
    match error:
        case Unreachable():
            return True
        case ApiProblem() | UnexpectedAnswer():
            return error.status in _PASSING
        case _:
            return False
