"""A screen that is still gives a recording no pictures."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from steersman_contracts.ids import ChatId
from steersman_desktop.archive import Archive
from steersman_desktop.machine import ForeignMachine
from steersman_desktop.recorder import Recorder

CHAT = ChatId("01a00000-0000-7000-8000-000000000000")
BLACK, WHITE = bytes(16), b"\xff" * 16
_PATIENCE_S = 60.0


class Screen:
    """A VNC server of four pixels, which tells of changes to those who have asked for them."""

    def __init__(self) -> None:
        self.pixels = BLACK
        self.changes_wanted = 0
        """How often somebody has asked for changes, over all connections."""
        self._asked = asyncio.Condition()
        self._waiting: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncGenerator[str]:
        address = folder / "rfb"
        async with await asyncio.start_unix_server(self._talk, address):
            yield f"unix:{address}"

    async def wanted(self, times: int) -> None:
        """Wait until changes were asked for so often since the beginning."""
        async with asyncio.timeout(_PATIENCE_S), self._asked:
            await self._asked.wait_for(lambda: self.changes_wanted >= times)

    def draw(self, pixels: bytes) -> None:
        """Draw the whole screen, and tell those who wait for that."""
        self.pixels = pixels
        for writer in self._waiting:
            self._show(writer, 2, 2)
        self._waiting.clear()

    def _show(self, writer: asyncio.StreamWriter, width: int, height: int) -> None:
        head = struct.pack(">BxHHHHHi", 0, 1, 0, 0, width, height, 0)
        writer.write(head + self.pixels[: 4 * width * height])

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No security, and welcome.
        writer.write(b"RFB 003.008\n\x01\x01" + bytes(4) + struct.pack(">HH16xI", 2, 2, 0))
        await reader.readexactly(12 + 1 + 1)
        try:
            while True:
                await self._hear(reader, writer)
        except asyncio.IncompleteReadError:
            self._waiting.discard(writer)
            writer.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (kind,) = await reader.readexactly(1)
        if kind == 0:
            await reader.readexactly(19)
        elif kind == 2:
            await reader.readexactly(4 * struct.unpack(">xH", await reader.readexactly(3))[0])
        else:
            assert kind == 3
            changes, width, height = struct.unpack(">B4xHH", await reader.readexactly(9))
            if not changes:
                self._show(writer, width, height)
                return
            self._waiting.add(writer)
            async with self._asked:
                self.changes_wanted += 1
                self._asked.notify_all()


async def test_only_what_has_changed_is_a_picture(tmp_path: Path) -> None:
    screen = Screen()
    async with screen.serving(tmp_path) as address:
        machine = await ForeignMachine.open(address, "", _PATIENCE_S)
        recorder = await Recorder.begin(
            Archive(str(tmp_path / "recordings")),
            CHAT,
            (2, 2),
            limits=(3600.0, 1 << 20),
            hidden=lambda: False,
        )
        recorder.follow(machine)
        # Once with the first picture, and once more for the next: now it waits for a change.
        await screen.wanted(2)
        first = recorder.recording.frames
        # Something was drawn that looks as before: once with a look at it, then it waits again.
        screen.draw(BLACK)
        await screen.wanted(4)
        still = recorder.recording.frames
        screen.draw(WHITE)
        ended = await recorder.end("stopped")
        await machine.stop()

    assert (first, still) == (1, 1)
    assert (ended.frames, ended.reason) == (2, "stopped")
