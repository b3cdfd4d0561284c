"""The HTTP client of all model calls: httpx2's interface over aiohttp's connections.

httpx2's own transport parses HTTP in Python, which was half of the CPU of a paced stream. The SDKs
offer a transport like this one as an extra, but each its own, with other errors for the same fault,
a jar for cookies, and bodies above one megabyte written in one go.
"""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Any, Final
from urllib.request import getproxies

import aiohttp
import httpx2
from aiohttp.typedefs import LooseHeaders
from yarl import URL

CONNECT_TIMEOUT_S: Final = 10.0
TIMEOUT: Final = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
"""The watchdogs end silent streams; a whole answer may take as long as it likes."""
KEEP_IDLE_S: Final = 5.0
"""How long an unused connection is kept. Servers end theirs as well, and a request that meets this
moment fails, so it is well below what they use."""
MAX_HEADER: Final = 64 * 1024
"""Bytes of one header of an answer; aiohttp's own limit is below what some proxies add."""
_IN_PIECES: Final = 64 * 1024

_KEEP_ALIVE: Final = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 60),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 60),
    ("TCP_KEEPCNT", socket.IPPROTO_TCP, 5),
)
"""Models think for minutes, and routers forget connections on which nothing is sent."""

# First match wins; the left ones are all the kinds that aiohttp has.
_ERRORS: Final[tuple[tuple[type[Exception], type[httpx2.TransportError]], ...]] = (
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientError, httpx2.ReadError),
    (OSError, httpx2.ReadError),
    (ValueError, httpx2.LocalProtocolError),  # a line end in a header
)


@contextmanager
def _translated(request: httpx2.Request) -> Generator[None]:
    try:
        yield
    except Exception as error:
        for kind, ours in _ERRORS:
            if isinstance(error, kind):
                raise ours(str(error) or type(error).__name__, request=request) from error
        raise


def _socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = info[:3]
    made = socket.socket(family, kind, protocol)
    for name, level, value in _KEEP_ALIVE:
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(level, option, value)
    return made


class _Body(httpx2.AsyncByteStream):
    """What has arrived, as it arrived. Closed early, it takes its connection along."""

    def __init__(self, request: httpx2.Request, response: aiohttp.ClientResponse) -> None:
        self._request = request
        self._response = response

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        content = self._response.content
        with _translated(self._request):
            while chunk := await content.readany():
                yield chunk

    async def aclose(self) -> None:
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


class Transport(httpx2.AsyncBaseTransport):
    """Connections that are kept for the next request. No proxies, no cookies, no redirects."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=self._context,
            limit=0,
            keepalive_timeout=KEEP_IDLE_S,
            socket_factory=_socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("user-agent", "content-type"),
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._session is None:
            self._session = self._open()
        timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        content = await request.aread()
        headers: LooseHeaders = [
            (name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw
        ]
        with _translated(request):
            response = await self._session.request(
                request.method,
                # As httpx2 has written it: what was signed must not be written in another way.
                URL(str(request.url), encoded=True),
                headers=headers,
                data=(io.BytesIO(content) if len(content) > _IN_PIECES else content) or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=timeout.get("connect"),  # with looking up the name
                    sock_connect=timeout.get("connect"),
                    sock_read=timeout.get("read"),
                ),
            )
        return httpx2.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(request, response),
            request=request,
            extensions={
                "http_version": b"HTTP/1.1",
                "reason_phrase": (response.reason or "").encode("latin-1", "replace"),
            },
        )

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def has_proxy() -> bool:
    """Say whether the environment names a proxy."""
    found = getproxies()
    return any(found.get(scheme) for scheme in ("http", "https", "all"))


def client(context: ssl.SSLContext) -> httpx2.AsyncClient:
    """Make a client for model calls.

    Behind a proxy it is httpx2's own transport, which knows all that the environment may say about
    proxies and exceptions.
    """
    return httpx2.AsyncClient(
        verify=context,
        timeout=TIMEOUT,
        follow_redirects=True,
        limits=httpx2.Limits(max_connections=None, keepalive_expiry=KEEP_IDLE_S),
        transport=None if has_proxy() else Transport(context),
    )
