"""When a new screen may be shown: not before its taskbar is there, whole."""

from __future__ import annotations

from steersman_desktop import look
from steersman_desktop.furnishing import is_painted

SIZE = (4, 3)
BARE = look.BACKGROUND.to_bytes(3, "little") + b"\xff"
GREY = b"\xd8\xd8\xd8\x00"
BELOW = [0, 0, 4, 2] * 4
"""As icewm tells it: for each of four workspaces."""
ABOVE = [0, 1, 4, 2]


def screen(*lines: bytes) -> bytes:
    return b"".join(lines)


def test_a_taskbar_counts_once_it_hides_the_background_whole() -> None:
    free = BARE * 4

    assert is_painted(screen(free, free, GREY * 4), SIZE, BELOW)
    assert is_painted(screen(GREY * 4, free, free), SIZE, ABOVE)
    assert not is_painted(screen(free, free, GREY * 3 + BARE), SIZE, BELOW)
    assert not is_painted(screen(free, free, free), SIZE, BELOW)
    assert not is_painted(screen(free, free, GREY * 4), SIZE, ABOVE)


def test_without_a_place_for_it_there_is_no_taskbar_to_wait_for() -> None:
    grey = screen(*[GREY * 4] * 3)

    assert not is_painted(grey, SIZE, [])
    assert not is_painted(grey, SIZE, [0, 0, 4, 3])
    # Told before the screen has become smaller.
    assert not is_painted(grey, SIZE, [0, 0, 8, 9])


def test_two_pixels_that_hold_the_colour_between_them_are_none_of_the_background() -> None:
    blue, green, red = BARE[:3]
    mixed = bytes((1, 1, blue, green)) + bytes((red, 1, 1, 1))

    assert is_painted(screen(BARE * 4, BARE * 4, mixed * 2), SIZE, BELOW)
    assert not is_painted(screen(BARE * 4, BARE * 4, mixed + GREY + BARE), SIZE, BELOW)
