"""Requests to providers that are called without an SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec

from steersman_chatloop.providers.signals import ReportedFault

MAX_ERROR: Final = 64 * 1024


@asynccontextmanager
async def opened(
    client: httpx2.AsyncClient,
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    named: Callable[[httpx2.Response, Any], Any] = lambda _, body: body,
) -> AsyncGenerator[httpx2.Response]:
    """Send a request and hold the response open.

    Args:
        client: Redirects are followed as it says.
        url: The whole address.
        content: The body.
        headers: All of them.
        named: Puts what an error says elsewhere than in its body where the classifier looks.

    Raises:
        ReportedFault: The server refuses.
    """
    async with client.stream("POST", url, content=content, headers=headers) as response:
        if response.status_code >= 400:
            body = named(response, await _error(response))
            raise ReportedFault(body, status=response.status_code, response=response)
        yield response


async def _error(response: httpx2.Response) -> Any:
    raw = b""
    async for chunk in response.aiter_bytes():
        raw += chunk
        if len(raw) > MAX_ERROR:
            break
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        return {"message": raw[:500].decode("utf-8", "replace")}
