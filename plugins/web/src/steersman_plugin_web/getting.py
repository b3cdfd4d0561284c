"""One guarded GET: addresses checked and then connected to, redirects re-checked, sizes bounded."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import httpcore2
import httpx2

from steersman_contracts.addresses import PrivateHosts, Refused
from steersman_contracts.guarded import GuardedBackend, Resolve, resolve

AGENT: Final = "Steersman"
"""What robots.txt knows us as."""
USER_AGENT: Final = f"{AGENT}/0.1 (self-hosted agent backend; reads pages that its user asks for)"
REDIRECTS: Final = 5
_REDIRECT: Final = frozenset({301, 302, 303, 307, 308})
_URL_MAX: Final = 4_000
_CHUNK: Final = 64 * 1024

Hop: TypeAlias = Callable[[httpx2.URL], Awaitable[None]]


class Failed(Exception):
    """The page could not be read. The message is for the model."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a server answered in the end.

    Attributes:
        url: The last one, after redirects.
        status: Below 400, unless the caller took anything.
        media_type: In lower case and without parameters; empty when the server named none.
        charset: As the server named it.
        body: Unpacked; at most as long as was asked for.
        cut: Whether more would have come.
    """

    url: str
    status: int
    media_type: str
    charset: str | None
    body: bytes
    cut: bool


@cache
def _tls() -> ssl.SSLContext:
    return httpcore2.default_ssl_context()


def parse_url(text: str) -> httpx2.URL:
    """Read a URL that may be fetched.

    Raises:
        Refused: It is not one of http or https with a host, or it holds a user name.
    """
    try:
        url = httpx2.URL(text.strip())
    except httpx2.InvalidURL as error:
        raise Refused(f"this is not a URL: {error}") from error
    if url.scheme not in {"http", "https"}:
        raise Refused(f"only http and https URLs are read, not {url.scheme or 'relative'!r} ones")
    if url.userinfo:
        raise Refused("the URL holds a user name or a password; leave them out")
    if not url.host or len(text) > _URL_MAX:
        raise Refused(f"the URL has no host, or more than {_URL_MAX} characters")
    if url.port is not None and not 0 < url.port < 65_536:
        raise Refused(f"{url.port} is no port")
    return url.copy_with(fragment=None)


class Getter:
    """GETs pages from hosts that may be read.

    Args:
        private: Hosts that are allowed although they are not public.
        resolve: Finds addresses; another one in tests.
        tls: Which certificates are believed; None believes those that the system does.
    """

    def __init__(
        self,
        private: PrivateHosts,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._private = private
        self._resolve = resolve
        self._tls = tls

    async def get(
        self,
        url: httpx2.URL,
        *,
        max_bytes: int,
        takes: Callable[[str], bool] = lambda _: True,
        before: Hop | None = None,
        any_status: bool = False,
    ) -> Page:
        """Follow at most five redirects and read the answer. The caller sets the deadline.

        Args:
            url: From `parse_url`.
            max_bytes: Of the unpacked body; nothing is read after them.
            takes: Whether a media type is wanted; asked before the body is read.
            before: Called with each URL before it is asked for; may raise `Refused`.
            any_status: Whether an error status is an answer.

        Raises:
            Refused: An address, a redirect, a media type or an encoding is not taken.
            Failed: The server could not be reached, broke off or answered with an error.
        """
        for _ in range(REDIRECTS + 1):
            if before is not None:
                await before(url)
            answer = await self._once(url, max_bytes, takes, any_status=any_status)
            if isinstance(answer, Page):
                return answer
            url = answer
        raise Refused(f"there were more than {REDIRECTS} redirects; the last led to {url}")

    async def _once(
        self, url: httpx2.URL, max_bytes: int, takes: Callable[[str], bool], *, any_status: bool
    ) -> Page | httpx2.URL:
        headers: dict[str | bytes, str | bytes] = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": USER_AGENT,
            "Accept": "text/html,application/xhtml+xml,application/pdf,text/*;q=0.9,*/*;q=0.5",
            "Accept-Encoding": "gzip",
        }
        # A pool for each request: a connection is never used again for what was not checked.
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=(self._tls or _tls()) if url.scheme == "https" else None,
            network_backend=GuardedBackend(self._private, self._resolve),
        )
        try:
            async with (
                pool,
                pool.stream("GET", _core_url(url), headers=headers) as response,
            ):
                return await _answer(url, response, max_bytes, takes, any_status=any_status)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise Failed(f"no connection to {url.host!r}: {error}") from error
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
        ) as error:
            raise Failed(f"the answer of {url.host!r} broke off or made no sense") from error


def _core_url(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


async def _answer(
    url: httpx2.URL,
    response: httpcore2.Response,
    max_bytes: int,
    takes: Callable[[str], bool],
    *,
    any_status: bool,
) -> Page | httpx2.URL:
    headers = httpx2.Headers(response.headers)
    if response.status in _REDIRECT and "location" in headers:
        return _next(url, headers["location"])
    if response.status >= 400 and not any_status:
        raise Failed(f"{url} answered with HTTP status {response.status}")
    media_type, charset = content_type(headers.get("content-type", ""))
    if not takes(media_type):
        raise Refused(
            f"{url} is of type {media_type!r}, which is not read: only HTML, PDF, JSON and text are"
        )
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise Refused(f"{url} is packed as {encoding!r}, which nobody asked for")
    body, cut = await _read(response.aiter_stream(), max_bytes, packed="gzip" in encoding)
    return Page(str(url), response.status, media_type, charset, body, cut)


def _next(url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        return parse_url(str(url.join(location)))
    except httpx2.InvalidURL as error:
        raise Refused(f"{url} redirects to what is no URL") from error
    except Refused as refused:
        raise Refused(f"{url} redirects, and {refused}") from refused


async def _read(
    chunks: AsyncIterable[bytes], max_bytes: int, *, packed: bool
) -> tuple[bytes, bool]:
    body = bytearray()
    unpack = zlib.decompressobj(wbits=31) if packed else None
    async for chunk in chunks:
        if unpack is None:
            body += chunk
        else:
            # Piece by piece: a few kilobytes can be gigabytes unpacked.
            rest = chunk
            while rest and not unpack.eof and len(body) <= max_bytes:
                try:
                    body += unpack.decompress(rest, _CHUNK)
                except zlib.error as error:
                    raise Failed("the answer is not packed as it says") from error
                rest = unpack.unconsumed_tail
        if len(body) > max_bytes:
            return bytes(body[:max_bytes]), True
        if unpack is not None and unpack.eof:
            break
    if unpack is not None and not unpack.eof:
        body += unpack.decompress(b"", _CHUNK)
        return bytes(body[:max_bytes]), True
    return bytes(body), False


def content_type(header: str) -> tuple[str, str | None]:
    """Split `text/html; charset=utf-8` into media type and charset."""
    media_type, *parameters = header.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip():
            return media_type.strip().lower(), value.strip().strip("\"'")
    return media_type.strip().lower(), None
