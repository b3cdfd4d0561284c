"""A provider whose tokens say when they were written: `python -m bench.stamped`.

Speaks just enough of Chat Completions. The model `stamped-N-at-R` says N tokens, R per second; each
is a space and the monotonic clock of this host in seconds, taken right before the write.

The model `counted-N` says N tokens at once: the number of messages that it got, and words. What it
got it does not look into: a history of 10,000 messages is none of this process's business.

`stamped-parent` spawns an agent that answers with such tokens, waits for it, and then says when the
request that followed has arrived. `stamped-poller` does not wait: it looks again and again how far
its agent is, as often as a quick model would.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, cast

import httptools
import msgspec
import uvloop

_MODEL: Final = re.compile(r"stamped-(\d+)-at-(\d+)")
_COUNTED: Final = re.compile(r"counted-(\d+)")
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


_CALL: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"stamped",'
    b'"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call-%d","type":"function",'
    b'"function":{"name":"%b","arguments":%b}}]},"finish_reason":null}]}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"stamped",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n'
    b"data: [DONE]\n\n"
)

_ROLE: Final = b'"role":'

COUNTED: Final = "counted-200"
PARENT: Final = "stamped-parent"
POLLER: Final = "stamped-poller"
POLL_S: Final = 0.25
"""What `POLLER` needs to say that it wants to look once more."""
AGENT: Final = "stamped-2-at-5"
"""What `PARENT` gives its task to: by its second token the parent waits already."""


class _Message(msgspec.Struct):
    role: str
    content: Any = None


class _Body(msgspec.Struct):
    model: str
    messages: msgspec.Raw


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
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
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        arrived = time.monotonic()
        if self._transport is None:
            return
        body = msgspec.json.decode(b"".join(self._body), type=_Body)
        if body.model in (PARENT, POLLER):
            messages = msgspec.json.decode(body.messages, type=list[_Message])
            polls = body.model == POLLER
            self._answer = asyncio.create_task(_delegate(self._transport, messages, arrived, polls))
            return
        if counted := _COUNTED.fullmatch(body.model):
            _count(self._transport, bytes(body.messages).count(_ROLE), int(counted[1]))
            return
        model = _MODEL.fullmatch(body.model)
        if model is None:
            raise ValueError(f"no such model: {body.model!r}")
        count, rate = int(model[1]), int(model[2])
        self._answer = asyncio.create_task(_speak(self._transport, count, rate))


def _count(transport: asyncio.Transport, messages: int, tokens: int) -> None:
    transport.write(_HEAD)
    _write(transport, _CHUNK % (b"%d" % messages))
    for number in range(1, tokens):
        _write(transport, _CHUNK % (b" w%d" % number))
    _write(transport, _END % (tokens, tokens + 1))
    transport.write(b"0\r\n\r\n")


async def _delegate(
    transport: asyncio.Transport, messages: Sequence[_Message], arrived: float, polls: bool
) -> None:
    results: list[str] = []
    for message in messages:
        if message.role == "user":
            results = []
        elif message.role == "tool":
            results.append(message.content)
    transport.write(_HEAD)
    if not results:
        task = {"prompt": "Go on.", "model": f"stamped/{AGENT}"}
        _write(transport, _called("spawn_agent", task))
    elif len(results) == 1 or '"timed_out"' in results[-1]:
        agent: str = msgspec.json.decode(results[0])["agent_id"]
        arguments: dict[str, object] = {"agent_ids": [agent]}
        if polls:
            # The first time by chance, or it would look in step with the agent's clock.
            await asyncio.sleep(POLL_S * (random.random() if len(results) == 1 else 1))
            arguments["timeout_s"] = 0
        _write(transport, _called("wait_agent", arguments))
    else:
        _write(transport, _CHUNK % (b"%.6f" % arrived) + _END % (1, 2))
    transport.write(b"0\r\n\r\n")


def _called(tool: str, arguments: object) -> bytes:
    text = msgspec.json.encode(msgspec.json.encode(arguments).decode())
    return _CALL % (time.monotonic_ns(), tool.encode(), text)


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
