"""Event streams: cut anywhere, with whatever servers and proxies put into them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_chatloop.providers.signals import StreamFault
from steersman_chatloop.providers.sse import Reader
from steersman_contracts.parts import JsonObject


def read(*chunks: bytes) -> list[JsonObject]:
    reader = Reader()
    found = [event for chunk in chunks for event in reader.feed(chunk)]
    return found + reader.end()


STREAM = (
    b': hello\r\nevent: x\r\ndata: {"a": "\xc3\xa9\\n"}\r\n\r\n'
    b'id: 7\ndata:{"b":\ndata: [1,\ndata: 2]}\n\n\n'
    b"retry: 10\n\n"
    b'data: {"c": null}\n\ndata: [DONE]\n\n'
)
EVENTS = [{"a": "\u00e9\n"}, {"b": [1, 2]}, {"c": None}]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_it_does_not_matter_where_a_stream_is_cut(cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(at)]
    assert read(*chunks) == EVENTS


def test_one_byte_at_a_time() -> None:
    assert read(*(bytes([byte]) for byte in STREAM)) == EVENTS


def test_the_end_mark_is_seen() -> None:
    reader = Reader()
    reader.feed(b"data: [DONE]\n\n")
    assert reader.done


def test_the_last_event_needs_no_empty_line() -> None:
    assert read(b'data: {"a": 1}') == [{"a": 1}]


def test_half_a_character_is_replaced_visibly() -> None:
    assert read(b'data: {"a": "x\\ud83d"}\n\n') == [{"a": "x\ufffd"}]
    assert read(b'data: {"a": "\\ud83d\\ude00"}\n\n') == [{"a": "\U0001f600"}]
    assert read(b'data: {"a": "\xff"}\n\n') == [{"a": "\ufffd"}]
    halves = b'data: {"text": "a\xf0\x9f"}\n\ndata: {"text": "\x98\x80b"}\n\n'
    assert read(halves) == [{"text": "a\ufffd"}, {"text": "\ufffd\ufffdb"}]


def test_a_byte_order_mark_is_not_part_of_the_first_event() -> None:
    assert read(b"\xef\xbb\xbf" + STREAM) == EVENTS
    assert read(b'\xef\xbb\xbfdata: {"a": 1}') == [{"a": 1}]


@pytest.mark.parametrize("endless", [b"x" * 60, b"data: x\n" * 60])
def test_an_event_without_an_end_is_given_up(endless: bytes) -> None:
    reader = Reader(limit=200)
    reader.feed(b'data: {"a": 1}\n\n' * 60)
    with pytest.raises(StreamFault, match="too large"):
        list(map(reader.feed, [endless] * 10))


def test_an_answer_without_an_end_is_given_up() -> None:
    event = b'data: {"a": 1}\n\n'
    reader = Reader(whole=60 * len(event))
    assert len([found for _ in range(60) for found in reader.feed(event)]) == 60
    with pytest.raises(StreamFault, match="too large"):
        reader.feed(event)


def test_nul_survives() -> None:
    assert read(b'data: {"a": "\\u0000"}\n\n') == [{"a": "\x00"}]


@pytest.mark.parametrize("data", [b"<html>", b'{"a": ', b"[" * 100_000])
def test_what_is_not_json_is_a_failure(data: bytes) -> None:
    with pytest.raises(StreamFault) as caught:
        read(b"data: " + data + b"\n\n")
    assert caught.value.code == "malformed_event"


def test_what_is_no_object_is_no_event() -> None:
    assert read(b'data: 1\n\ndata: "x"\n\ndata: [{}]\n\n') == []
