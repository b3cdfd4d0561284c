"""A provider whose tokens say when they were written: `python -m bench.stamped`.

Speaks just enough of Chat Completions. The model `stamped-N-at-R` says N tokens, R per second; each
is a space and the monotonic clock of this host in seconds, taken right before the write.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Final, cast

import httptools
import msgspec
import uvloop

_MODEL: Final = re.compile(r"stamped-(\d+)-at-(\d+)")
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_CHUNK: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"stamped",'
    b'"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
)
_END: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"stamped",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"stamped",'
    b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    b"data: [DONE]\n\n"
)


class _Body(msgspec.Struct):
    model: str


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body = b""
        self._answer: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None:
            self._answer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        model = _MODEL.fullmatch(msgspec.json.decode(self._body, type=_Body).model)
        if model is None or self._transport is None:
            raise ValueError(f"no such model: {self._body[:100]!r}")
        count, rate = int(model[1]), int(model[2])
        self._answer = asyncio.create_task(_speak(self._transport, count, rate))


async def _speak(transport: asyncio.Transport, count: int, rate: int) -> None:
    transport.write(_HEAD)
    begin = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
        _write(transport, _CHUNK % (b" %.6f" % time.monotonic()))
    _write(transport, _END % (count, count + 1))
    transport.write(b"0\r\n\r\n")


def _write(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(b"%x\r\n%b\r\n" % (len(data), data))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f'{{"port":{port}}}\n')
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
