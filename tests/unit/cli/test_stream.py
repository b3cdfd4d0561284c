from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx2
import msgspec
import pytest
from unit.cli.chat_log import CHAT_ID

from steersman.client import ApiProblem, Interruption, UnexpectedAnswer
from steersman.client.backoff import Backoff
from steersman.client.stream import follow
from steersman_contracts.deltas import TextDelta
from steersman_contracts.events import ChatDeleted, Event, PartDelta
from steersman_contracts.rest import Problem


def delta(seq: int) -> PartDelta:
    return PartDelta(
        chat_id=CHAT_ID, history_version=1, attempt=1, seq=seq, deltas=(TextDelta(0, str(seq)),)
    )


def frame(number: int, event: Event) -> bytes:
    body = msgspec.json.encode(event)
    return b"id: e.%d\nevent: %b\ndata: %b\n\n" % (number, event.name.encode(), body)


END = frame(99, ChatDeleted(chat_id=CHAT_ID, snapshot_version=9))


class Connection(httpx2.AsyncByteStream):
    """What a server sends, and how it ends."""

    def __init__(self, *chunks: bytes, breaks: bool = False) -> None:
        self._chunks = chunks
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._breaks:
            raise httpx2.ReadError("reset by peer")


class Server:
    """Answers each connection with the next of its answers."""

    def __init__(self, *answers: Connection | httpx2.Response | Exception) -> None:
        self._answers = list(answers)
        self.cursors: list[str | None] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.cursors.append(request.headers.get("last-event-id"))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx2.Response):
            return answer
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream; charset=utf-8"}, stream=answer
        )


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    body = Problem("urn:x", code, status, "no", code, "r1")
    return httpx2.Response(status, content=msgspec.json.encode(body), headers=headers)


@asynccontextmanager
async def connected(
    server: Server, lost: list[Interruption] | None = None, cursor: str | None = None
) -> AsyncGenerator[AsyncGenerator[tuple[str, str, Event]]]:
    transport = httpx2.MockTransport(server)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as http:
        request = http.build_request("GET", "/events")
        told = None if lost is None else lost.append
        async with aclosing(follow(http, request, cursor=cursor, on_interruption=told)) as events:
            yield events


async def test_a_lost_connection_is_taken_up_after_the_last_whole_event() -> None:
    second = frame(2, delta(2))
    lost: list[Interruption] = []
    server = Server(
        Connection(frame(1, delta(1)), second[:-7], breaks=True),
        httpx2.ConnectError("refused"),
        problem(503, "unavailable"),
        Connection(second, frame(3, delta(3))),
        Connection(END),
    )
    async with connected(server, lost) as events:
        got = [(number, event) async for number, _, event in events]

    assert [number for number, _ in got] == ["e.1", "e.2", "e.3", "e.99"]
    assert [event for _, event in got[:3]] == [delta(1), delta(2), delta(3)]
    assert server.cursors == [None, "e.1", "e.1", "e.1", "e.3"]
    assert [one.retry_in_s for one in lost] == [0.2, 0.4, 0.8, 0.2]
    assert [one.tries for one in lost] == [1, 2, 3, 1]
    assert lost[0].reason == "reset by peer"


async def test_the_server_says_how_long_to_wait() -> None:
    lost: list[Interruption] = []
    server = Server(Connection(b"retry: 250\n\n"), Connection(END))
    async with connected(server, lost, cursor="e.7") as events:
        async for _ in events:
            pass

    assert lost[0].retry_in_s == 0.25
    assert server.cursors == ["e.7", "e.7"]


@pytest.mark.parametrize(("status", "code"), [(401, "unauthenticated"), (404, "not_found")])
async def test_a_refusal_for_good_ends_the_stream(status: int, code: str) -> None:
    async with connected(Server(problem(status, code))) as events:
        with pytest.raises(ApiProblem) as caught:
            await anext(events)

    assert caught.value.code == code


async def test_events_of_a_newer_server_are_left_out() -> None:
    server = Server(Connection(b'id: e.1\nevent: chat.sang\ndata: {"a": 1}\n\n' + END))
    async with connected(server) as events:
        assert [name async for _, name, _ in events] == ["chat.deleted"]


async def test_an_event_that_cannot_be_read_is_not_passed_over() -> None:
    server = Server(Connection(b"id: e.1\nevent: message.created\ndata: {}\n\n"))
    async with connected(server) as events:
        with pytest.raises(UnexpectedAnswer, match=r"message\.created"):
            await anext(events)


async def test_something_else_than_events_is_not_taken_for_an_empty_stream() -> None:
    page = httpx2.Response(200, headers={"content-type": "text/html"}, content=b"<h1>Hi</h1>")
    async with connected(Server(page)) as events:
        with pytest.raises(UnexpectedAnswer, match="text/html"):
            await anext(events)


def test_waits_double_up_to_five_seconds_and_begin_anew() -> None:
    backoff = Backoff()

    assert [backoff.next_s() for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s(1.0) == 1.0
    assert backoff.next_s() == 0.4
