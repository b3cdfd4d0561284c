"""Event streams that outlive their connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final, NamedTuple, TypeVar

import httpx2
import msgspec

from steersman.client.backoff import Backoff
from steersman.client.problems import ApiProblem, ClientError, UnexpectedAnswer, read_problem
from steersman.client.sse import Frame, LineTooLong, SseParser
from steersman_contracts.events import EVENTS, ChatDeleted, Event
from steersman_contracts.feed import FEED_EVENTS, FeedEvent

SILENCE_S: Final = 45.0
"""The server writes something every 15 s. After three missed comments the connection is dead."""
_LONGEST_HINT_S: Final = 60.0
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

E = TypeVar("E")

_DECODERS: Final = {name: msgspec.json.Decoder(kind) for name, kind in EVENTS.items()}
_FEED_DECODERS: Final[Mapping[str, msgspec.json.Decoder[FeedEvent]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in FEED_EVENTS.items()
}


class Received(NamedTuple):
    """An event and where it stands."""

    id: str
    """The cursor with which to go on after this event; empty before the first one."""
    name: str
    event: Event


class Listed(NamedTuple):
    """An event of the feed of all chats, and where it stands."""

    id: str
    """As that of `Received`."""
    name: str
    event: FeedEvent


class Interruption(NamedTuple):
    """The connection is lost, or could not be made."""

    reason: str
    retry_in_s: float
    tries: int
    """How many connections in a row have come to nothing."""


class _Lost(Exception):
    """Worth another try."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


async def follow(
    http: httpx2.AsyncClient,
    request: httpx2.Request,
    *,
    cursor: str | None,
    on_interruption: Callable[[Interruption], None] | None,
) -> AsyncGenerator[Received]:
    """Yield the events of a chat; connect again after each loss, from the last id on.

    Raises:
        ApiProblem: The API refuses for good.
        UnexpectedAnswer: An event of a known name that cannot be read: the server is newer.
    """
    async with aclosing(_frames(http, request, cursor, on_interruption)) as frames:
        async for frame in frames:
            event = _decode(frame, _DECODERS)
            if event is not None:
                yield Received(frame.id, frame.event, event)
            if isinstance(event, ChatDeleted):
                return


async def follow_chats(
    http: httpx2.AsyncClient,
    request: httpx2.Request,
    *,
    cursor: str | None,
    on_interruption: Callable[[Interruption], None] | None,
) -> AsyncGenerator[Listed]:
    """Yield the events of the feed of all chats; otherwise as `follow`."""
    async with aclosing(_frames(http, request, cursor, on_interruption)) as frames:
        async for frame in frames:
            event = _decode(frame, _FEED_DECODERS)
            if event is not None:
                yield Listed(frame.id, frame.event, event)


async def _frames(
    http: httpx2.AsyncClient,
    request: httpx2.Request,
    cursor: str | None,
    on_interruption: Callable[[Interruption], None] | None,
) -> AsyncGenerator[Frame]:
    parser = SseParser(cursor or "")
    backoff = Backoff()
    tries = 0
    while True:
        try:
            async with aclosing(_connection(http, request, parser)) as frames:
                async for frame in frames:
                    if frame is None:
                        tries = 0
                        backoff.reset()
                    else:
                        yield frame
            reason, hint = "the server ended the stream", None
        except _Lost as error:
            reason, hint = str(error), error.retry_after_s
        tries += 1
        wait_s = backoff.next_s(max(hint or 0.0, parser.retry_s or 0.0))
        if on_interruption is not None:
            on_interruption(Interruption(reason, wait_s, tries))
        await asyncio.sleep(wait_s)
        parser = _resumed(parser)


def _resumed(parser: SseParser) -> SseParser:
    """A parser for the next connection: half an event of the last one must not get into it."""
    fresh = SseParser(parser.last_id)
    fresh.retry_s = parser.retry_s
    return fresh


async def _connection(
    http: httpx2.AsyncClient, request: httpx2.Request, parser: SseParser
) -> AsyncGenerator[Frame | None]:
    """One connection: None once the stream is open, then its events."""
    headers = {**request.headers, "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if parser.last_id:
        headers["Last-Event-ID"] = parser.last_id
    attempt = http.build_request(
        "GET",
        request.url,
        headers=headers,
        timeout=httpx2.Timeout(30.0, connect=5.0, read=SILENCE_S),
    )
    try:
        response = await http.send(attempt, stream=True)
    except (httpx2.TransportError, OSError) as error:
        raise _Lost(str(error) or type(error).__name__) from error
    try:
        await _check(response)
        yield None
        async for chunk in response.aiter_raw():
            for frame in parser.feed(chunk):
                yield frame
    except (httpx2.TransportError, httpx2.StreamError, OSError) as error:
        raise _Lost(str(error) or type(error).__name__) from error
    except LineTooLong as error:
        raise UnexpectedAnswer(str(error)) from error
    finally:
        await response.aclose()


async def _check(response: httpx2.Response) -> None:
    if response.status_code == 200:
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "text/event-stream":
            raise UnexpectedAnswer(f"the server sends {kind!r} in place of events")
        return
    body = await response.aread()
    error: ClientError = read_problem(
        response.status_code, body, response.headers.get("retry-after")
    )
    if response.status_code in _PASSING:
        hint = error.retry_after_s if isinstance(error, ApiProblem) else None
        raise _Lost(str(error), min(hint, _LONGEST_HINT_S) if hint else None)
    raise error


def _decode(frame: Frame, decoders: Mapping[str, msgspec.json.Decoder[E]]) -> E | None:
    decoder = decoders.get(frame.event)
    if decoder is None:  # a newer server may know more kinds of events; nothing else changes
        return None
    try:
        return decoder.decode(frame.data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UnexpectedAnswer(f"an event {frame.event!r} cannot be read: {error}") from error
