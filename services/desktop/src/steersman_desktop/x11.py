"""The few X11 requests that RFB has no word for: pointer, keyboard map, windows that answer.

Written out because the only maintained library blocks and needs a C library; these are ten
requests of a protocol that has not changed since 1987.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from steersman_contracts.errors import Unavailable

SLOTS: Final = range(231, 255)
"""Keycodes that no keyboard has: they are lent to characters. Others near them mean `volume`."""

_FIRST_CODE: Final = 8
_LAST_CODE: Final = 255
_OUT_OF_REACH: Final = frozenset({0xFF15, 0xFF6B})
"""`Sys_Req` and `Break`: what the server cannot press, because only Alt and Control lead there."""
_STOOD_IN: Final = frozenset({0xFF58, 0xFF80, 0xFF89, 0xFFAC})
"""`Begin`, `KP_Space`, `KP_Tab`, `KP_Separator`: the server presses a key that does the same."""
_NO_KEY: Final = 0xFFFFFF
"""X's `VoidSymbol`: a code that is taken, and types nothing."""
_READ_S: Final = 0.05
_PONG_S: Final = 2.0
_COOKIE: Final = b"MIT-MAGIC-COOKIE-1"
_ERROR: Final = 0
_REPLY: Final = 1
_CLIENT_MESSAGE: Final = 33
_SUBSTRUCTURE_NOTIFY: Final = 0x80000


class XError(Unavailable):
    """The X server refused, or is gone."""


class XClient:
    """One connection to an X server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sequence = 0
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._tokens = itertools.count(1)
        self._atoms: dict[str, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._standard: frozenset[int] = frozenset()
        self._lent: dict[int, int] = {}
        self._lending = asyncio.Lock()
        self.root = 0

    @classmethod
    async def open(cls, display: int, cookie: bytes) -> XClient:
        """Connect to a display of this machine.

        Raises:
            XError: It does not answer, or does not accept the cookie.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(f"/tmp/.X11-unix/X{display}")  # noqa: S108, RUF100  # X's place
            client = cls(reader, writer)
            await client._set_up(cookie)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise XError(f"display {display} does not answer") from error
        return client

    async def close(self) -> None:
        """Hang up."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _set_up(self, cookie: bytes) -> None:
        head = struct.pack("<BxHHHHxx", 0x6C, 11, 0, len(_COOKIE), len(cookie))
        self._writer.write(head + _padded(_COOKIE) + _padded(cookie))
        status, length = struct.unpack("<B5xH", await self._reader.readexactly(8))
        body = await self._reader.readexactly(4 * length)
        if status != 1:
            raise XError("the X server does not accept the cookie")
        vendor, formats = struct.unpack("<16xH3xB", body[:22])
        screens = 32 + vendor + -vendor % 4 + 8 * formats
        (self.root,) = struct.unpack("<I", body[screens : screens + 4])
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="x11")
        # Windows answer a ping through the root window.
        self._send(2, 0, struct.pack("<III", self.root, 0x800, _SUBSTRUCTURE_NOTIFY))

    # -- what it is for --------------------------------------------------------------------------

    async def pointer(self) -> tuple[int, int]:
        """Where the pointer is, in native pixels."""
        reply = await self._ask(38, 0, struct.pack("<I", self.root))
        x, y = struct.unpack("<hh", reply[16:20])
        return x, y

    def paint_background(self, color: int) -> None:
        """Give the screen a colour where nothing else is: three bytes, red first."""
        self._send(2, 0, struct.pack("<III", self.root, 0x2, color))
        self._send(61, 0, struct.pack("<IHHHH", self.root, 0, 0, 0, 0))

    async def keep_slots_alone(self) -> None:
        """Leave nothing but the slots to keys that are new to the keyboard.

        The server lends the first free code to a character that a viewer sends and no key has.
        Programs take some of those for keys with a meaning, and the server never takes one back.
        """
        codes = _LAST_CODE - _FIRST_CODE + 1
        reply = await self._ask(101, 0, struct.pack("<BBxx", _FIRST_CODE, codes))
        each = reply[1]
        symbols = struct.unpack(f"<{codes * each}I", reply[32 : 32 + 4 * codes * each])
        for number in range(codes):
            code, has = _FIRST_CODE + number, symbols[number * each : (number + 1) * each]
            if code not in SLOTS and not any(has):
                self._send(100, 1, struct.pack("<BBxxI", code, 1, _NO_KEY))
        self._standard = (frozenset(symbols) | _STOOD_IN) - _OUT_OF_REACH
        await self.map_slots({})

    def has(self, keysym: int) -> bool:
        """Whether there is a key for it on the keyboard, without a slot."""
        return keysym in self._standard

    async def lend(self, keysyms: Iterable[int]) -> None:
        """Give these keys slots, if they have none, before they are pressed.

        The server would do so itself at their press, which programs then hear of together with the
        new map and read by the old one.

        Args:
            keysyms: No more new ones than there are slots.
        """
        wanted = set(keysyms) - self._standard
        if wanted <= set(self._lent.values()):
            return
        async with self._lending:
            lent = self._lent
            new = sorted(wanted.difference(lent.values()))
            free = [code for code in SLOTS if code not in lent]
            if len(new) > len(free):
                await self._answered()  # what was typed is to be read before its letters go
                lent, free, new = {}, list(SLOTS), sorted(wanted)
            await self.map_slots({**lent, **dict(zip(free, new, strict=False))})
            await self._answered()

    async def _answered(self) -> None:
        """Wait until the active window has read what was typed, and the map that it goes by."""
        # In one round the server serves all that were heard before, in the next us.
        await self.sync()
        await self.sync()
        with suppress(XError):
            if not await self.ping_active_window(_PONG_S):
                await asyncio.sleep(_READ_S)

    async def map_slots(self, keysyms: Mapping[int, int]) -> None:
        """Give all slots their characters, in one request: each makes every client read them.

        Args:
            keysyms: By keycode; slots that are not in it become empty.
        """
        # Two columns: a lone letter would be taken for a pair of small and capital.
        values = [keysyms.get(code, 0) for code in SLOTS for _ in range(2)]
        body = struct.pack(f"<BBxx{len(values)}I", SLOTS.start, 2, *values)
        self._lent = dict(keysyms)
        self._send(100, len(SLOTS), body)
        await self.sync()

    async def sync(self) -> None:
        """Wait until the server has done everything that was asked before."""
        await self._ask(43, 0, b"")

    async def has_window_manager(self) -> bool:
        """Whether somebody manages the windows."""
        return bool(await self._property(self.root, "_NET_SUPPORTING_WM_CHECK"))

    async def work_area(self) -> list[int]:
        """What the window manager leaves to windows: left, top, width, height; empty before."""
        return (await self._property(self.root, "_NET_WORKAREA"))[:4]

    async def ping_active_window(self, timeout_s: float) -> bool:
        """Wait until the active window has worked off its events.

        Returns:
            Whether it has; windows of old programs do not know how to answer.

        Raises:
            XError: It knows how to, and has not within the time.
        """
        window = (await self._property(self.root, "_NET_ACTIVE_WINDOW") or [0])[0]
        protocols = await self._atom("WM_PROTOCOLS")
        ping = await self._atom("_NET_WM_PING")
        if not window or ping not in await self._property(window, "WM_PROTOCOLS"):
            return False
        token = next(self._tokens)
        answered = self._pings[token] = asyncio.get_running_loop().create_future()
        event = struct.pack(
            "<BBHII5I", _CLIENT_MESSAGE, 32, 0, window, protocols, ping, token, window, 0, 0
        )
        self._send(25, 0, struct.pack("<II", window, 0) + event)
        try:
            async with asyncio.timeout(timeout_s):
                await answered
        except TimeoutError as error:
            raise XError("the active window does not answer") from error
        finally:
            del self._pings[token]
        return True

    # -- the protocol ----------------------------------------------------------------------------

    async def _atom(self, name: str) -> int:
        if name not in self._atoms:
            text = name.encode()
            reply = await self._ask(16, 0, struct.pack("<Hxx", len(text)) + _padded(text))
            (self._atoms[name],) = struct.unpack("<I", reply[8:12])
        return self._atoms[name]

    async def _property(self, window: int, name: str) -> list[int]:
        """The numbers of a property; none if the window has none, or is gone."""
        body = struct.pack("<IIIII", window, await self._atom(name), 0, 0, 64)
        try:
            reply = await self._ask(20, 0, body)
        except XError:
            if self._reading is not None and self._reading.done():
                raise
            return []
        if reply[1] != 32:
            return []
        (count,) = struct.unpack("<I", reply[16:20])
        return list(struct.unpack(f"<{count}I", reply[32 : 32 + 4 * count]))

    def _send(self, opcode: int, detail: int, body: bytes) -> int:
        if self._reading is not None and self._reading.done():
            raise XError("the X server is gone")
        self._writer.write(struct.pack("<BBH", opcode, detail, 1 + len(body) // 4) + body)
        self._sequence = (self._sequence + 1) & 0xFFFF
        return self._sequence

    async def _ask(self, opcode: int, detail: int, body: bytes) -> bytes:
        sequence = self._send(opcode, detail, body)
        future = self._replies[sequence] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(10):
                return await future
        except TimeoutError as error:
            raise XError("the X server does not answer") from error
        finally:
            self._replies.pop(sequence, None)

    async def _read(self) -> None:
        try:
            while True:
                message = await self._reader.readexactly(32)
                kind = message[0] & 0x7F
                if message[0] == _REPLY:
                    (more,) = struct.unpack("<I", message[4:8])
                    message += await self._reader.readexactly(4 * more)
                if message[0] in {_REPLY, _ERROR}:
                    self._settle(message)
                elif kind == _CLIENT_MESSAGE:
                    self._on_client_message(message)
        except (OSError, asyncio.IncompleteReadError):
            pass  # said below
        finally:
            for future in (*self._replies.values(), *self._pings.values()):
                if not future.done():
                    future.set_exception(XError("the X server is gone"))

    def _settle(self, message: bytes) -> None:
        (sequence,) = struct.unpack("<H", message[2:4])
        future = self._replies.get(sequence)
        if future is None or future.done():
            return
        if message[0] == _ERROR:
            future.set_exception(XError(f"the X server refused with error {message[1]}"))
        else:
            future.set_result(message)

    def _on_client_message(self, message: bytes) -> None:
        kind, token = struct.unpack("<II", message[12:20])
        waiting = self._pings.get(token)
        if kind == self._atoms.get("_NET_WM_PING") and waiting is not None and not waiting.done():
            waiting.set_result(None)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
