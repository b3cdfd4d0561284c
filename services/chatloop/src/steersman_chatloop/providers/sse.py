"""Event streams as JSON objects: bytes in, all the events of one read out.

The SDKs decode lines one by one, make an object of each and give way to the caller after each
event, which costs more than everything that we do with the events. Only `data` counts: every wire
format names its events in the JSON itself. Comments, other fields and line ends of either kind,
which proxies add or change, are read over.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, cast

import httpx2
import msgspec

from steersman_chatloop.providers.halves import Halves, whole
from steersman_chatloop.providers.signals import StreamFault
from steersman_contracts.parts import JsonObject

MAX_EVENT: Final = 64 * 1024 * 1024
"""Bytes of one event. The largest are generated images; without a limit a server could fill us."""
MAX_ANSWER: Final = 256 * 1024 * 1024
"""Bytes of all events. No model writes so much; whoever sends it never stops."""
_MARK: Final = b"\xef\xbb\xbf"
"""A byte order mark, which may stand at the beginning of a stream."""
_MAX_BODY: Final = 1024 * 1024
_DRAIN_S: Final = 0.1
"""How long to wait for the end of the body after the last event, so that the connection lives."""

_decode = msgspec.json.Decoder().decode


class Reader:
    """Splits bytes, cut anywhere, into events. Pure."""

    __slots__ = ("_begun", "_data", "_halves", "_left", "_limit", "_rest", "_size", "done")

    def __init__(self, limit: int = MAX_EVENT, whole: int = MAX_ANSWER) -> None:
        """Begin a stream; `limit` is the most bytes of one event, `whole` of all of them."""
        self._limit = limit
        self._left = whole
        self.done = False
        """`[DONE]` was seen: nothing follows."""
        self._rest = bytearray()
        self._data: list[bytes | bytearray] = []
        self._size = 0
        self._begun = False
        self._halves = Halves()

    def feed(self, chunk: bytes) -> list[JsonObject]:
        """Take in bytes and return the events that they complete.

        Raises:
            StreamFault: An event is not JSON, or too large.
        """
        events: list[JsonObject] = []
        self._left -= len(chunk)
        if self._left < 0:
            raise StreamFault("malformed_response", "the answer is too large")
        rest = self._rest
        lines: list[bytes] | list[bytearray]
        if rest:
            rest += chunk
            if b"\n" not in chunk:
                if len(rest) > self._limit:
                    raise StreamFault("malformed_response", "an event is too large")
                return events
            lines = rest.split(b"\n")
        else:
            lines = chunk.split(b"\n")
        self._rest = bytearray(lines.pop())
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[5:])
            elif self._data and (not line or line == b"\r"):
                self._dispatch(events)
            elif not self._begun and line.startswith(_MARK + b"data:"):
                self._take(line[len(_MARK) + 5 :])
            self._begun = True
        return events

    def end(self) -> list[JsonObject]:
        """What is left when the body ends without an empty line after the last event."""
        events: list[JsonObject] = []
        rest = self._rest if self._begun else self._rest.removeprefix(_MARK)
        if rest.startswith(b"data:"):
            self._take(rest[5:])
        if self._data:
            self._dispatch(events)
        events.extend(self._halves.end())
        return events

    def _take(self, data: bytes | bytearray) -> None:
        self._size += len(data)
        if self._size > self._limit:  # of many lines, and no end
            raise StreamFault("malformed_response", "an event is too large")
        self._data.append(data)

    def _dispatch(self, events: list[JsonObject]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._size = 0
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            if data.strip() == b"[DONE]":
                self.done = True
                events.extend(self._halves.end())
                return
            events.extend(joined(self._halves, data))
            return
        if isinstance(event, dict):
            if self._halves.waits:
                events.extend(self._halves.take(cast("JsonObject", event)))
            else:
                events.append(cast("JsonObject", event))


def lenient(data: bytes | bytearray) -> Any:
    """Decode JSON in which a server has cut a character in two; what is lost shows as U+FFFD.

    Bytes of half a character are not joined with those of the next event, as halves of surrogate
    pairs are: servers that cut UTF-8 make U+FFFD of each half themselves, or wait for the whole
    character. What else is no UTF-8 is damage, and is to be seen.

    Raises:
        StreamFault: It is not JSON at all.
    """
    try:
        return whole(json.loads(data.decode("utf-8", "replace")))
    except (ValueError, RecursionError) as error:
        raise StreamFault("malformed_event", "an event is not JSON") from error


def joined(halves: Halves, data: bytes | bytearray) -> list[JsonObject]:
    """The events that can be passed on after one in which a character was cut in two.

    Raises:
        StreamFault: It is not JSON at all.
    """
    try:
        event = json.loads(data.decode("utf-8", "replace"))
        return list(halves.take(cast("JsonObject", event))) if isinstance(event, dict) else []
    except (ValueError, RecursionError) as error:
        raise StreamFault("malformed_event", "an event is not JSON") from error


async def events(response: httpx2.Response) -> AsyncGenerator[list[JsonObject]]:
    """Yield the events of a response, those of one read together.

    Raises:
        StreamFault: The body is not what an API sends.
    """
    kind = response.headers.get("content-type", "")
    if "html" in kind:
        raise StreamFault("not_an_api", "the server answered with a web page")
    body = response.aiter_bytes() if "content-encoding" in response.headers else _raw(response)
    if kind.startswith("application/json"):
        yield await _document(body)
        return
    reader = Reader()
    feed = reader.feed
    async for chunk in body:
        if found := feed(chunk):
            yield found
        if reader.done:
            await _drain(body)
            return
    if found := reader.end():
        yield found


def _raw(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The body as it arrives; `aiter_raw` would only count it."""
    stream = response.stream
    return aiter(stream) if isinstance(stream, httpx2.AsyncByteStream) else response.aiter_raw()


async def _document(body: AsyncIterator[bytes]) -> list[JsonObject]:
    """A plain answer to a request for a stream: an error with the status of a success."""
    whole = b""
    async for chunk in body:
        whole += chunk
        if len(whole) > _MAX_BODY:
            raise StreamFault("not_an_api", "the server answered without a stream")
    found = lenient(whole)
    items = cast("list[Any]", found) if isinstance(found, list) else [found]
    return [cast("JsonObject", item) for item in items if isinstance(item, dict)]


async def _drain(body: AsyncIterator[bytes]) -> None:
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in body:
                pass
    except Exception:  # noqa: BLE001  # the answer is whole: nothing here can matter any more
        pass
