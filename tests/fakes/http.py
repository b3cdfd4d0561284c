"""The server side of HTTP/1.1, as far as the fakes need it: keep-alive, one request at a time."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qsl, unquote

import httptools

from fakes.delivery import Delivery
from fakes.wire import HttpRequest

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class HttpConnection(asyncio.Protocol):
    """One client connection.

    `handle` answers by `respond` or by starting a delivery, at once or later.
    """

    def __init__(
        self,
        handle: Callable[[HttpConnection, HttpRequest], None],
        opened: Callable[[HttpConnection], None],
        lost: Callable[[HttpConnection], None],
    ) -> None:
        self._handle = handle
        self._opened = opened
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._waiting: deque[HttpRequest] = deque()
        self._busy = False
        self._keep_alive = True
        self._paused = False
        self.delivery: Delivery | None = None

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream server always hands out duplex transports.
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close(reset=False)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self.delivery is not None:
            self.delivery.go()

    # httptools

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._target.decode("latin-1").partition("?")
        request = HttpRequest(
            method=self._parser.get_method().decode(),
            path=unquote(path),
            query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
            headers=self._headers,
            raw=b"".join(self._body),
            target=self._target.decode("latin-1"),
        )
        self._keep_alive = self._parser.should_keep_alive()
        if self._busy:
            self._waiting.append(request)
        else:
            self._start(request)

    def _start(self, request: HttpRequest) -> None:
        self._busy = True
        self._handle(self, request)

    # For whoever answers

    @property
    def writable(self) -> bool:
        return self._transport is not None and not self._paused

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if self._transport is None:
            return
        self.write(head(status, {**headers, "content-length": str(len(body))}) + body)
        self.finished()

    def finished(self) -> None:
        self.delivery = None
        self._busy = False
        if not self._keep_alive:
            self.close(reset=False)
        elif self._waiting:
            self._start(self._waiting.popleft())

    def close(self, *, reset: bool) -> None:
        if self._transport is None:
            return
        if reset:
            # Linger for zero seconds: the peer sees a reset instead of an orderly end.
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
