"""Servers behind a URL: the SDK's transports over a client that bounds what comes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

import httpx2
from mcp.client._transport import TransportStreams  # the public names are not exported
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from steersman_contracts.addresses import PrivateHosts
from steersman_plugin_mcp.config import HttpServer, SseServer, headers_of
from steersman_plugin_mcp.guard import GuardedTransport
from steersman_plugin_mcp.wire import MAX_MESSAGE, Wire

CONNECT_S: Final = 10.0
_GOODBYE_S: Final = 3.0
_IDLE_S: Final = 600.0
"""Seconds without a byte on a stream that waits for news."""
_STREAM: Final = "text/event-stream"


_LIMITS: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=10)


@dataclass(frozen=True, slots=True)
class Reach:
    """How to reach a server.

    Attributes:
        private: What may be reached beside public addresses; None is any address, which is for
            servers of administrators.
        auth: Adds to each request what proves who asks, where that changes with time.
    """

    private: PrivateHosts | None = None
    auth: httpx2.Auth | None = None

    def transport(self) -> httpx2.AsyncBaseTransport | None:
        """None is the client's own."""
        return None if self.private is None else GuardedTransport(self.private, _LIMITS)


ANYWHERE: Final = Reach()


class TooLarge(httpx2.DecodingError):
    """The answer is larger than one message may be."""


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MAX_MESSAGE:
                # The SDK lets whoever asked wait; the end of the connection tells them.
                self._wire.end(f"it sent a message of more than {MAX_MESSAGE} bytes")
                raise TooLarge(self._wire.fault or "")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _before(request: httpx2.Request) -> None:
    # A few compressed kilobytes can be gigabytes.
    request.headers["accept-encoding"] = "identity"
    if request.method == "DELETE":  # the end of a session: nobody waits long for that
        request.extensions["timeout"] = httpx2.Timeout(_GOODBYE_S).as_dict()


def bounded_client(
    headers: dict[str, str] | None, timeout: httpx2.Timeout, wire: Wire, reach: Reach
) -> httpx2.AsyncClient:
    """A client that reads no more than a message may have."""

    async def after(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpx2.DecodingError("it sent a compressed answer, which was not asked for")
        # Events are bounded one by one, by the SDK: a stream of them may go on for ever.
        if not response.headers.get("content-type", "").lower().startswith(_STREAM):
            response.stream = _Bounded(cast("httpx2.AsyncByteStream", response.stream), wire)

    return httpx2.AsyncClient(
        headers=headers,
        timeout=timeout,
        event_hooks={"request": [_before], "response": [after]},
        limits=_LIMITS,
        transport=reach.transport(),
        auth=reach.auth,
    )


def _timeout(call_timeout_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(CONNECT_S, read=max(_IDLE_S, call_timeout_s + CONNECT_S))


@asynccontextmanager
async def http_transport(
    server: HttpServer, wire: Wire, reach: Reach = ANYWHERE
) -> AsyncGenerator[TransportStreams]:
    """Streamable HTTP."""
    async with (
        bounded_client(
            headers_of(server.auth), _timeout(server.call_timeout_s), wire, reach
        ) as client,
        streamable_http_client(
            server.url, http_client=client, max_sse_event_size=MAX_MESSAGE
        ) as streams,
    ):
        yield streams


@asynccontextmanager
async def sse_transport(
    server: SseServer, wire: Wire, reach: Reach = ANYWHERE
) -> AsyncGenerator[TransportStreams]:
    """HTTP with server-sent events."""

    def factory(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return bounded_client(headers, timeout or httpx2.Timeout(CONNECT_S), wire, reach)

    async with sse_client(
        server.url,
        headers=headers_of(server.auth),
        timeout=CONNECT_S,
        sse_read_timeout=max(_IDLE_S, server.call_timeout_s + CONNECT_S),
        httpx_client_factory=factory,
    ) as streams:
        yield cast("TransportStreams", streams)
