"""Waits until a new screen is furnished: until its taskbar is there, whole.

The first picture is to show what a person would see. Waiting for a still screen alone takes longer
than anything else in a start, and on a busy host takes the pause before the taskbar for the end.
"""

from __future__ import annotations

import asyncio
from typing import Final

from steersman_desktop import look
from steersman_desktop.rfb import RfbClient
from steersman_desktop.x11 import XClient

_BACKGROUND: Final = look.BACKGROUND.to_bytes(3, "little")
_AT_MOST_S: Final = 5.0
_STILL_S: Final = 0.12
"""Without a taskbar to wait for, a screen that is still for so long is all there is."""
_FRAME_S: Final = 0.03
"""Two frames of Xvnc: what was painted together may come in two updates."""


async def furnished(rfb: RfbClient, x: XClient, *, taskbar: bool) -> None:
    """Return when the screen is as people are to see it first, or when that takes too long.

    Args:
        rfb: Shows the screen; what it shows at the end is what was waited for.
        x: The X server behind it.
        taskbar: Whether the window manager has one.
    """
    loop = asyncio.get_running_loop()
    latest = loop.time() + _AT_MOST_S
    while (now := loop.time()) < latest:
        if is_painted(rfb.pixels, (rfb.width, rfb.height), await x.work_area()):
            still_s = _FRAME_S
        else:
            still_s = _AT_MOST_S if taskbar else _STILL_S
        rfb.ask()
        try:
            async with asyncio.timeout(min(still_s, latest - now)):
                await rfb.next_update()
        except TimeoutError:
            return


def is_painted(pixels: bytes | bytearray, size: tuple[int, int], work_area: list[int]) -> bool:
    """Whether what the window manager keeps for itself, above or below, hides the background.

    Args:
        pixels: Four bytes each, blue first.
        size: Of the screen.
        work_area: Left, top, width and height of what is left to windows; empty if not known.
    """
    if len(work_area) < 4:
        return False
    (width, height), (_, top, _, free) = size, work_area[:4]
    line = 4 * width
    kept = [(0, top * line), ((top + free) * line, height * line)]
    return top + free <= height and free < height and not any(_bare(pixels, *part) for part in kept)


def _bare(pixels: bytes | bytearray, start: int, end: int) -> bool:
    at = pixels.find(_BACKGROUND, start, end)
    while at >= 0 and at % 4:  # the end of one pixel and the start of the next
        at = pixels.find(_BACKGROUND, at + 1, end)
    return at >= 0
