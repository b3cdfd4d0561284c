"""Input of viewers is stopped in the stream itself, wherever the bytes are cut."""

from __future__ import annotations

import asyncio
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_desktop import clipboard
from steersman_desktop.viewing import MAX_CLIPBOARD, NotRfb, ViewerStream
from steersman_desktop.views import SILENT, enters

ENTER = b"RFB 003.008\n\x01\x01"


def key(keysym: int, *, down: bool = True) -> bytes:
    return struct.pack(">BBxxI", 4, down, keysym)


def pointer(x: int, y: int, buttons: int) -> bytes:
    return struct.pack(">BBHH", 5, buttons, x, y)


def cut_text(text: bytes) -> bytes:
    return struct.pack(">BxxxI", 6, len(text)) + text


ENCODINGS = struct.pack(">BxH3i", 2, 3, 0, 16, -239)
UPDATE = struct.pack(">BBHHHH", 3, 1, 0, 0, 640, 480)
FORMAT = bytes(20)
FENCE = b"\xf8\0\0\0" + bytes(4) + b"\x03abc"
CONTINUOUS = bytes([150]) + bytes(9)
QEMU = struct.pack(">BBHII", 255, 0, 1, 0x61, 30)
RESIZE = struct.pack(">BxHHBx", 251, 800, 600, 1) + bytes(16)
HARMLESS = (ENCODINGS, UPDATE, FORMAT, FENCE, CONTINUOUS)
INPUT = (key(0x61), pointer(1, 2, 1), cut_text(b"abc"), QEMU, b"\xfa\0\x01\x02")

messages = st.lists(st.sampled_from((*HARMLESS, *INPUT, RESIZE)), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(messages, st.lists(st.integers(0, 10_000), max_size=30), st.booleans())
def test_exactly_what_may_pass_does_however_it_is_cut(
    sent: list[bytes], cuts: list[int], may: bool
) -> None:
    stream = ViewerStream(lambda: may)
    passing = HARMLESS + (INPUT if may else ())

    passed = b"".join(stream.feed(piece) for piece in pieces(ENTER + b"".join(sent), cuts))

    assert passed == ENTER + b"".join(message for message in sent if message in passing)
    assert stream.inputs + stream.dropped == sum(message in INPUT for message in sent)


def test_who_loses_control_lets_go_of_what_is_held() -> None:
    stream = ViewerStream(lambda: True, greeted=True)
    stream.feed(b"\x01" + key(0x61) + key(0x62) + key(0x61, down=False) + pointer(7, 8, 5) + QEMU)

    assert stream.releases() == (
        struct.pack(">BBHII", 255, 0, 0, 0x61, 30) + key(0x62, down=False) + pointer(7, 8, 0)
    )
    assert stream.releases() == b""


def test_control_is_asked_for_with_each_message() -> None:
    may = True
    stream = ViewerStream(lambda: may, greeted=True)

    first = stream.feed(b"\x01" + key(0x61))
    may = False
    second = stream.feed(key(0x62) + UPDATE)

    assert (first, second) == (b"\x01" + key(0x61), UPDATE)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"RFB 009.000\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"RFB 003.008\n\x02",
        ENTER + b"\x63",
        ENTER + struct.pack(">BxxxI", 6, MAX_CLIPBOARD + 1),
    ],
)
def test_what_is_not_rfb_is_refused(nonsense: bytes) -> None:
    with pytest.raises(NotRfb):
        ViewerStream(lambda: True).feed(nonsense)


def test_extended_mouse_buttons_are_one_byte_longer() -> None:
    stream = ViewerStream(lambda: True, greeted=True)
    asks = struct.pack(">BxH1i", 2, 1, -316)
    extended = bytes([5, 0x81, 0, 1, 0, 2, 1])

    assert stream.feed(b"\x01" + asks + extended + UPDATE) == b"\x01" + asks + extended + UPDATE


def test_a_viewer_is_not_offered_keys_by_their_place() -> None:
    stream = ViewerStream(lambda: True, greeted=True)
    stream.feed(b"\x01")

    def encodings(*wanted: int) -> bytes:
        return struct.pack(f">BxH{len(wanted)}i", 2, len(wanted), *wanted)

    assert stream.feed(encodings(7, -258, -239)) == encodings(7, -239)
    assert stream.feed(encodings(7, -239)) == encodings(7, -239)


def test_long_messages_in_tiny_pieces_pass_whole_and_too_long_ones_at_once_do_not() -> None:
    stream = ViewerStream(lambda: True)
    every = struct.pack(">BxH", 2, 65_535) + b"".join(
        struct.pack(">i", 0 if code == -258 else code) for code in range(65_535)
    )
    pasted = cut_text(bytes(MAX_CLIPBOARD))
    sent = ENTER + every + pasted

    passed = b"".join(stream.feed(sent[at : at + 7]) for at in range(0, len(sent), 7))

    assert passed == sent
    for length in (MAX_CLIPBOARD + 1, 0x7FFFFFFF, 0x80000000):
        announced = struct.pack(">BxxxI", 6, length)
        with pytest.raises(NotRfb, match="a clipboard of"):
            stream.feed(announced)
        stream = ViewerStream(lambda: True)
        stream.feed(ENTER)


def test_every_viewer_may_ask_what_was_copied_and_only_who_has_control_may_change_it() -> None:
    asks = [
        clipboard.message(clipboard.TEXT | flag) for flag in (clipboard.REQUEST, clipboard.PEEK)
    ]
    changes = [
        clipboard.message(clipboard.TEXT | clipboard.NOTIFY),
        clipboard.message(clipboard.TEXT | clipboard.REQUEST | clipboard.NOTIFY),
        clipboard.provide("x"),
        clipboard.our_caps(),
        cut_text(bytes(4)),
    ]
    viewer, person = ViewerStream(lambda: False), ViewerStream(lambda: True)
    for stream in (viewer, person):
        stream.feed(ENTER)

    assert [viewer.feed(message) for message in (*asks, *changes)] == [*asks, *[b""] * 5]
    assert [person.feed(message) for message in (*asks, *changes)] == [*asks, *changes]
    assert (viewer.dropped, person.inputs) == (5, 5)  # to ask is no input


async def test_a_viewer_that_never_says_who_it_is_loses_its_place() -> None:
    silent, known = ViewerStream(lambda: True), ViewerStream(lambda: True)
    silent.feed(ENTER[:-1])
    known.feed(ENTER)
    staying = asyncio.create_task(enters(known, 0.0))

    closed = await enters(silent, 0.0)

    assert (closed.code, str(closed)) == (1002, SILENT)
    assert not staying.done()
    staying.cancel()
