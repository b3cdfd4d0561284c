"""The lean parser gives what nats-py's own gives, however the bytes are cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import Error as NatsError
from nats.protocol.parser import Parser

from steersman_runtime.nats_client import NatsClient

LISTENED, PLAIN = 1, 22


class Recorder(NatsClient):
    """A client that has no connection and notes what a parser tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []
        self.reconnects_on_ping = False

    async def feed(self, chunks: list[bytes]) -> list[tuple[Any, ...]]:
        for chunk in chunks:
            await self._ps.parse(chunk)
        return self.seen

    def listen_here(self) -> None:
        self.listeners[LISTENED] = self._heard

    def _heard(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        self.seen.append(("message", LISTENED, subject, reply, headers, payload))

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.seen.append(("message", sid, subject, reply, headers or b"", data))

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))
        if self.reconnects_on_ping:
            self._ps.reset()

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))

    async def _process_err(self, err_msg: str) -> None:
        self.seen.append(("error", err_msg.strip("'")))

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        self.seen.append(("info", info))


tokens = st.text("abcXYZ019_-", min_size=1, max_size=8).map(str.encode)
subjects = st.lists(tokens, min_size=1, max_size=4).map(b".".join)
# Bodies that look like protocol are what a parser trips over.
bodies = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"", b"\r\n", b"PING\r\n", b"MSG a 1 3\r\nabc\r\n"])
)
header_blocks = st.sampled_from(
    [b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nA: b\r\nC: d\r\n\r\n"]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    sid = draw(st.sampled_from([b"1", b"22"]))
    head = [draw(subjects), sid, *([draw(subjects)] if draw(st.booleans()) else [])]
    body = draw(bodies)
    if draw(st.booleans()):
        block = draw(header_blocks)
        line = b" ".join([b"HMSG", *head, b"%d" % len(block), b"%d" % (len(block) + len(body))])
        return line + b"\r\n" + block + body + b"\r\n"
    return b" ".join([b"MSG", *head, b"%d" % len(body)]) + b"\r\n" + body + b"\r\n"


controls = st.sampled_from(
    [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"max_payload":5}\r\n', b"-ERR 'Stale'\r\n"]
)
streams = st.lists(st.one_of(messages(), controls), max_size=12)


def lean(chunks: list[bytes]) -> list[tuple[Any, ...]]:
    recorder = Recorder()
    recorder.listen_here()
    return asyncio.run(recorder.feed(chunks))


def original(data: bytes) -> list[tuple[Any, ...]]:
    recorder = Recorder()
    asyncio.run(Parser(recorder).parse(data))
    return recorder.seen


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(position % (len(data) + 1) for position in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@settings(deadline=None)
@given(streams, st.lists(st.integers(0, 5000), max_size=20))
def test_any_chunking_gives_what_natspy_gives(frames: list[bytes], at: list[int]) -> None:
    data = b"".join(frames)

    seen = lean(cut(data, at))

    assert seen == original(data)
    assert len(seen) == sum(frame != b"+OK\r\n" for frame in frames)


@settings(deadline=None)
@given(streams)
def test_byte_by_byte_gives_the_same_as_all_at_once(frames: list[bytes]) -> None:
    data = b"".join(frames)

    assert lean([bytes([byte]) for byte in data]) == lean([data])


def test_the_rest_of_a_replaced_connection_is_dropped() -> None:
    recorder = Recorder()
    recorder.listen_here()
    recorder.reconnects_on_ping = True

    asyncio.run(recorder.feed([b"PING\r\nMSG a 1 3\r\nold\r\nMSG a 1", b"MSG a 1 3\r\nnew\r\n"]))

    assert recorder.seen == [("ping",), ("message", 1, b"a", b"", b"", b"new")]


@pytest.mark.parametrize("nonsense", [b"HELLO\r\n", b"\r\n", b"X" * 9000])
def test_what_is_no_protocol_is_an_error(nonsense: bytes) -> None:
    with pytest.raises((NatsError, ValueError, IndexError)):
        lean([nonsense])
