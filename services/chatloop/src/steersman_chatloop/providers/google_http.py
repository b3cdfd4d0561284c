"""The HTTP client under google-genai, with what its SDK leaves out.

Ending a stream early does not close its request there, there is no timeout for connecting without
one for reading, and comments and event names, which proxies add to event streams, break its parser.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar
from typing import Final, TypeVar

import httpx2

from steersman_chatloop.providers.clients import TIMEOUT, tls

T = TypeVar("T")

MAX_CONNECTIONS: Final = 1000

_opened: ContextVar[list[httpx2.Response] | None] = ContextVar("opened", default=None)


def client() -> httpx2.AsyncClient:
    """Make a client to give to the SDK. Whoever makes it closes it."""
    hooks = {"request": [_on_request], "response": [_on_response]}
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=100)
    return httpx2.AsyncClient(verify=tls(), follow_redirects=True, limits=limits, event_hooks=hooks)


async def closing(chunks: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Pass chunks on; at the end close the responses that were opened for the first of them."""
    opened: list[httpx2.Response] = []
    try:
        # Set for this one step alone: a generator shares the context of whoever asks it.
        token = _opened.set(opened)
        try:
            first = await anext(chunks, None)
        finally:
            _opened.reset(token)
        if first is None:
            return
        yield first
        async for chunk in chunks:
            yield chunk
    finally:
        for response in opened:
            await response.aclose()
        await chunks.aclose()


async def _on_request(request: httpx2.Request) -> None:
    request.extensions["timeout"] = TIMEOUT.as_dict()


async def _on_response(response: httpx2.Response) -> None:
    opened = _opened.get()
    if opened is not None:
        opened.append(response)
    if "content-encoding" not in response.headers and isinstance(
        response.stream, httpx2.AsyncByteStream
    ):
        response.stream = DataLines(response.stream)


class DataLines(httpx2.AsyncByteStream):
    """An event stream without the lines that the SDK cannot read."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield whole lines."""
        rest = b""
        async for chunk in self._stream:
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            kept = [line for line in lines if not line.startswith(_DROPPED)]
            if kept:
                yield b"\n".join(kept) + b"\n"
        if rest:
            yield rest

    async def aclose(self) -> None:
        """Close the stream below."""
        await self._stream.aclose()


_DROPPED: Final = (b":", b"event:", b"id:", b"retry:")
