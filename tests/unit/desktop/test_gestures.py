"""What a person does with keys and pointer, told as the actions that it adds up to."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest

from steersman_contracts.desktop import Action, Click, Drag, PressKeys, Scroll, TypeText
from steersman_desktop.gestures import QUIET_S, Done, Gestures

SHIFT, CTRL, RETURN, LEFT = 0xFFE1, 0xFFE3, 0xFF0D, 0xFF51


def key(keysym: int, *, down: bool) -> bytes:
    return struct.pack(">BBxxI", 4, down, keysym)


def struck(*keysyms: int) -> list[bytes]:
    return [key(keysym, down=down) for keysym in keysyms for down in (True, False)]


def pointer(x: int, y: int, mask: int = 0) -> bytes:
    return struct.pack(">BBHH", 5, mask, x, y)


def told(messages: Iterable[bytes], *, pause_s: float = 0.01) -> list[Action]:
    gestures = Gestures(lambda point: (point[0] // 2, point[1] // 2))
    found: list[Done] = []
    now = 0.0
    for message in messages:
        now += pause_s
        found += gestures.feed((message,), now)
    return [done.action for done in found + gestures.end()]


@pytest.mark.parametrize(
    ("messages", "actions"),
    [
        (struck(ord("h"), ord("i"), 0x20, 0x10020AC, RETURN), [TypeText("hi €\n")]),
        (
            [key(SHIFT, down=True), *struck(ord("A")), key(SHIFT, down=False)],
            [TypeText("A")],
        ),
        (
            [key(CTRL, down=True), *struck(ord("c")), key(CTRL, down=False), *struck(ord("x"))],
            [PressKeys("ctrl+c"), TypeText("x")],
        ),
        (
            [key(CTRL, down=True), key(SHIFT, down=True), *struck(LEFT)],
            [PressKeys("ctrl+shift+left")],
        ),
        ([pointer(10, 10), pointer(10, 10, 1), pointer(12, 11)], [Click("left", 1, (5, 5))]),
        ([pointer(9, 9, 1), pointer(9, 9)] * 2, [Click("left", 2, (4, 4))]),
        (
            [pointer(9, 9, 1), pointer(9, 9)] * 4,
            [Click("left", 3, (4, 4)), Click("left", 1, (4, 4))],
        ),
        ([pointer(9, 9, 4), pointer(9, 9)], [Click("right", 1, (4, 4))]),
        (
            [pointer(10, 10, 1), pointer(50, 50, 1), pointer(90, 70, 1), pointer(90, 70)],
            [Drag(((5, 5), (45, 35)))],
        ),
        ([pointer(8, 8, 16), pointer(8, 8)] * 3, [Scroll("down", 3, (4, 4))]),
        (
            [key(CTRL, down=True), pointer(8, 8, 8), pointer(8, 8)],
            [Scroll("up", 1, (4, 4), ("ctrl",))],
        ),
        # QEMU's keys, and things that are no gesture at all.
        ([struct.pack(">BBHII", 255, 0, 1, ord("q"), 16)], [TypeText("q")]),
        ([pointer(1, 1), pointer(500, 2)], []),
    ],
)
def test_gestures_become_actions(messages: list[bytes], actions: list[Action]) -> None:
    assert told(messages) == actions


def test_two_clicks_with_a_pause_are_two() -> None:
    messages = [pointer(9, 9, 1), pointer(9, 9)] * 2

    assert told(messages, pause_s=0.3) == [Click("left", 1, (4, 4))] * 2


def test_what_is_quiet_is_over() -> None:
    gestures = Gestures(lambda point: point)
    gestures.feed(struck(ord("a")), 5.0)

    assert gestures.quiet(5.0 + QUIET_S / 2) == []
    assert gestures.quiet(5.0 + QUIET_S) == [Done(5.0, TypeText("a"))]
    assert gestures.end() == []
