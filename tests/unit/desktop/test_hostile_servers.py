"""A VNC server of somebody else may send anything: it is refused, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steersman_desktop.machine import connected
from steersman_desktop.rfb import RfbError

GREETING = b"RFB 003.008\n"
IN = b"\x01\x01" + bytes(4)
"""No security, and welcome."""


def screen(width: int, height: int, name: int = 0) -> bytes:
    return struct.pack(">HH16xI", width, height, name)


def update(*rectangles: bytes) -> bytes:
    return struct.pack(">BxH", 0, len(rectangles)) + b"".join(rectangles)


def rectangle(x: int, y: int, width: int, height: int, encoding: int) -> bytes:
    return struct.pack(">HHHHi", x, y, width, height, encoding)


SMALL = GREETING + IN + screen(2, 2)
PIXELS = update(rectangle(0, 0, 2, 2, 0) + bytes(16))

HOSTILE = {
    "nothing": b"",
    "half a greeting": GREETING[:5],
    "another protocol": b"HTTP/1.1 400",
    "an old version": b"RFB 003.003\n",
    "a refusal of 4 GB": GREETING + b"\0" + b"\xff" * 4,
    "unknown security": GREETING + b"\x01\x13",
    "a name of 4 GB": GREETING + IN + screen(2, 2, 0xFFFFFFFF),
    "no screen": GREETING + IN + screen(0, 2),
    "a screen of 16 GB": GREETING + IN + screen(65535, 65535),
    "a screen that is held too often": GREETING + IN + screen(8192, 8192),
    "half a screen": SMALL + PIXELS[:-1],
    "a rectangle outside": SMALL + update(rectangle(1, 0, 2, 2, 0)),
    "a copy from outside": SMALL + update(rectangle(0, 0, 2, 2, 1) + b"\0\1\0\0"),
    "an unknown encoding": SMALL + update(rectangle(0, 0, 2, 2, 7)),
    "a size of 16 GB": SMALL + update(rectangle(0, 0, 65535, 65535, -223)),
    "a text of 2 GB": SMALL + b"\x03\0\0\0\x7f\xff\xff\xff",
    "a clipboard that is none": SMALL + b"\x03\0\0\0\xff\xff\xff\xfe\0\0",
    "an unknown message": SMALL + b"\x09",
}


UNFINISHED = {
    HOSTILE[name] for name in ("nothing", "half a greeting", "a refusal of 4 GB", "half a screen")
}


@asynccontextmanager
async def serving(folder: Path, said: bytes) -> AsyncGenerator[str]:
    """A server that says this, and then nothing for as long as it is listened to."""
    address = folder / "rfb"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(talk, address):
        yield f"unix:{address}"


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE.keys())
async def test_what_is_no_screen_is_refused(tmp_path: Path, said: bytes) -> None:
    async with serving(tmp_path, said) as address:
        with pytest.raises(RfbError) as refused:
            # Whoever says nothing more is waited for; all others are refused for what they said.
            await connected(address, "", 0.2 if said in UNFINISHED else 20.0)

    assert len(str(refused.value)) < 200


async def test_a_server_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path, SMALL + PIXELS) as address:
        client = await connected(address, "")
        lost = asyncio.Event()
        client.on_lost = lost.set
        with pytest.raises(RfbError, match="does not answer any more"):
            await client.refresh(0.05)
        async with asyncio.timeout(20):
            await lost.wait()
        assert client.lost
        await client.close()
