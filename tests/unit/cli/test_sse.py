from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.client.sse import Frame, SseParser

STREAM = (
    b"retry: 1000\n\n"
    b": ping\n\n"
    b"id: abc.1\nevent: chat.status\ndata: {}\n\n"
    b"data: first\ndata:second\ndata:  indented\n\n"
    b"event: nothing\n\n"
    b"id: abc.2\n\n"
    b"whatever: ignored\nid: abc.3\nevent: part.delta\ndata: \xc3\xa4\xf0\x9f\x8c\x8a\n\n"
    b"id: abc.4\nevent: cut off\ndata: half"
)
FRAMES = [
    Frame("abc.1", "chat.status", b"{}"),
    Frame("abc.1", "message", b"first\nsecond\n indented"),
    Frame("abc.3", "part.delta", "ä🌊".encode()),
]


def parse(chunks: list[bytes]) -> tuple[list[Frame], SseParser]:
    parser = SseParser()
    return [frame for chunk in chunks for frame in parser.feed(chunk)], parser


@given(
    cuts=st.lists(st.integers(0, len(STREAM) * 2)), ends=st.sampled_from([b"\n", b"\r\n", b"\r"])
)
def test_any_chunking_and_any_line_ending_gives_the_same_events(
    cuts: list[int], ends: bytes
) -> None:
    stream = STREAM.replace(b"\n", ends)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in pairwise(places)]

    frames, parser = parse(chunks)

    assert frames == FRAMES
    assert parser.retry_s == 1.0


def test_an_event_that_was_cut_off_after_its_id_is_asked_for_again() -> None:
    _, parser = parse([STREAM])

    assert parser.last_id == "abc.3"


def test_every_byte_alone_gives_the_same_events() -> None:
    frames, _ = parse([bytes([byte]) for byte in STREAM.replace(b"\n", b"\r\n")])

    assert frames == FRAMES


@pytest.mark.parametrize("value", [b"soon", b"-5", b"1.5", b"", b"9" * 50])
def test_a_retry_that_is_no_number_of_milliseconds_is_ignored(value: bytes) -> None:
    _, parser = parse([b"retry: " + value + b"\n\n"])

    assert parser.retry_s is None


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    frames, _ = parse([b"\xef\xbb\xbfdata: x\n\n"])

    assert frames == [Frame("", "message", b"x")]


def test_an_id_with_a_nul_is_ignored() -> None:
    frames, _ = parse([b"id: a\ndata: x\n\nid: b\0\ndata: y\n\n"])

    assert [frame.id for frame in frames] == ["a", "a"]
