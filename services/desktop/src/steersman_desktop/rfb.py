"""A client of the RFB protocol (RFC 6143): sees the screen, presses keys, moves the pointer.

Raw pixels only: over a Unix socket they are faster than any compression, and everything speaks
them. The pointer is drawn into the picture by the server, as long as nobody asks for its shape.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from steersman_contracts.errors import InvalidRequest, Unavailable
from steersman_desktop import clipboard
from steersman_desktop.vnc_auth import answer

MAX_SIDE: Final = 8192
MAX_PIXELS: Final = 1 << 24
"""Of a screen, which is held in memory several times: 4K twice over."""
ANSWER_S: Final = 30.0
"""A server that leaves a question open for so long is as good as gone."""
MAX_TEXT: Final = 1 << 20
"""Bytes of a name or of clipboard text that are taken from a server."""

_RAW: Final = 0
_COPY: Final = 1
_DESKTOP_SIZE: Final = -223
_LED_STATE: Final = -261
_CAPS: Final = 4
_NONE: Final = 1
_VNC: Final = 2


class RfbError(Unavailable):
    """The VNC server refused, or said something that is not RFB, or is gone."""


class RfbClient:
    """One connection. Pixels are in `pixels`, four bytes each: blue, green, red, unused."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # Otherwise `drain` returns while keys are still here, because they are so small.
        writer.transport.set_write_buffer_limits(high=0)
        self._reading: asyncio.Task[None] | None = None
        self._updated = asyncio.Event()
        self._waiting: set[asyncio.Future[None]] = set()
        self.name = ""
        self.width = 0
        self.height = 0
        self.pixels = bytearray()
        self.updates = 0
        """Counts the updates that have arrived."""
        self.caps_lock = False
        self.clipboard = ""
        """The text that was last copied on the desktop, or put there by us."""
        self._extended_clipboard = False
        self.on_lost: Callable[[], None] = lambda: None
        """Called once when the server is gone."""

    # -- connecting ------------------------------------------------------------------------------

    async def open(self, password: str = "") -> None:
        """Shake hands and begin to read.

        Raises:
            RfbError: The server does not want us, or wants what we do not have.
        """
        try:
            await handshake(self._reader, self._writer, password)
            self._writer.write(b"\x01")  # others may stay
            head = await self._reader.readexactly(24)
            width, height = struct.unpack(">HH", head[:4])
            self.name = (await self._text(struct.unpack(">I", head[20:])[0])).decode(
                errors="replace"
            )
        except (asyncio.IncompleteReadError, OSError) as error:
            raise RfbError("the VNC server closed the connection") from error
        self._resize(width, height)
        self._writer.write(
            struct.pack(">B3xBBBBHHHBBB3x", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
            + struct.pack(
                # Not the extended size: TigerVNC would answer every full request with it alone.
                ">BxH5i",
                2,
                5,
                _COPY,
                _RAW,
                _DESKTOP_SIZE,
                _LED_STATE,
                clipboard.ENCODING,
            )
        )
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="rfb")

    async def close(self) -> None:
        """Hang up."""
        self.on_lost = lambda: None
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    @property
    def lost(self) -> bool:
        """Whether the server is gone."""
        return self._reading is None or self._reading.done()

    # -- the screen ------------------------------------------------------------------------------

    def ask(self, *, everything: bool = False) -> None:
        """Ask for what has changed, or for the whole screen; the server may let us wait."""
        self._write(struct.pack(">BBHHHH", 3, not everything, 0, 0, self.width, self.height))

    async def refresh(self, within_s: float = ANSWER_S) -> None:
        """Bring `pixels` up to what is on the screen now.

        Raises:
            RfbError: The server is gone.
        """
        seen = self.updates
        self._ask_at_once()
        try:
            async with asyncio.timeout(within_s):
                while self.updates == seen or not self._complete:
                    await self.next_update()
        except TimeoutError as error:
            if self._reading is not None:
                self._reading.cancel()  # which says so to everybody
            raise RfbError("the VNC server does not answer any more") from error

    def _ask_at_once(self) -> None:
        self.ask(everything=not self._complete)
        # Answered at once even if nothing has changed, and with everything that has.
        self._write(struct.pack(">BBHHHH", 3, 0, 0, 0, 1, 1))

    async def next_update(self) -> None:
        """Wait for an update.

        Raises:
            RfbError: The server is gone.
        """
        if self.lost:
            raise RfbError("the VNC server is gone")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    # -- input -----------------------------------------------------------------------------------

    def key(self, keysym: int, *, down: bool) -> None:
        """Press a key or let it go."""
        self._write(struct.pack(">BBxxI", 4, down, keysym))

    def pointer(self, x: int, y: int, buttons: int) -> None:
        """Put the pointer at native pixels, with the buttons of the mask down."""
        self._write(struct.pack(">BBHH", 5, buttons, x, y))

    def copy(self, text: str) -> None:
        """Put text into the clipboard of the desktop.

        Args:
            text: At most `clipboard.MAX_TEXT` bytes as UTF-8.

        Raises:
            InvalidRequest: The server takes Latin-1 alone, and this is more.
        """
        if self._extended_clipboard:
            self.clipboard = text
            self._write(clipboard.message(clipboard.TEXT | clipboard.NOTIFY))
            return
        try:
            data = text.encode("latin-1")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                "text: this VNC server takes only Latin-1 into its clipboard", field="text"
            ) from error
        self.clipboard = text
        self._write(struct.pack(">BxxxI", 6, len(data)) + data)

    def ask_for_size(self, width: int, height: int) -> None:
        """Ask the server for another size; it tells of that as of every change, or does not."""
        self._write(struct.pack(">BxHHBxIHHHHI", 251, width, height, 1, 0, 0, 0, width, height, 0))

    async def drain(self) -> None:
        """Wait until all that was sent has left us: what others ask of the server comes after."""
        with suppress(OSError):
            await self._writer.drain()

    def _write(self, data: bytes) -> None:
        if self.lost:
            raise RfbError("the VNC server is gone")
        self._writer.write(data)

    # -- reading ---------------------------------------------------------------------------------

    def _resize(self, width: int, height: int) -> None:
        inside = 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE
        if not inside or width * height > MAX_PIXELS:
            raise RfbError(f"the VNC server has a screen of {width}x{height}")
        self.width, self.height = width, height
        self.pixels = bytearray(width * height * 4)
        self._covered = 0
        self._complete = False

    async def _read(self) -> None:
        try:
            while True:
                kind = (await self._reader.readexactly(1))[0]
                await self._message(kind)
        except (asyncio.IncompleteReadError, OSError, RfbError, struct.error):
            pass  # said below, to everybody who waits
        finally:
            for future in self._waiting:
                if not future.done():
                    future.set_exception(RfbError("the VNC server is gone"))
            self.on_lost()

    async def _message(self, kind: int) -> None:
        if kind == 0:
            await self._update()
        elif kind == 1:
            count = struct.unpack(">xHH", await self._reader.readexactly(5))[1]
            await self._reader.readexactly(6 * count)
        elif kind == 3:
            (length,) = struct.unpack(">3xi", await self._reader.readexactly(7))
            self._cut_text(await self._text(abs(length)), extended=length < 0)
        elif kind != 2:
            raise RfbError(f"the VNC server sent a message of the unknown type {kind}")

    def _cut_text(self, body: bytes, *, extended: bool) -> None:
        if not extended:
            self.clipboard = body.decode("latin-1")
            return
        try:
            flags, text = clipboard.heard(body)
        except (ValueError, struct.error) as error:
            raise RfbError("the VNC server sent a clipboard that is none") from error
        if flags & clipboard.CAPS:
            self._extended_clipboard = True
            self._write(clipboard.our_caps())
        elif flags & clipboard.REQUEST and flags & clipboard.TEXT:
            self._write(clipboard.provide(self.clipboard))
        elif flags & clipboard.PEEK:
            has = clipboard.TEXT if self.clipboard else 0
            self._write(clipboard.message(clipboard.NOTIFY | has))
        elif flags & clipboard.NOTIFY and flags & clipboard.TEXT:
            self._write(clipboard.message(clipboard.TEXT | clipboard.REQUEST))
        elif text is not None:
            self.clipboard = text

    async def _text(self, length: int) -> bytes:
        if length > MAX_TEXT:
            raise RfbError(f"the VNC server sent a text of {length} bytes")
        return await self._reader.readexactly(length)

    async def _update(self) -> None:
        (count,) = struct.unpack(">xH", await self._reader.readexactly(3))
        shown = False
        for _ in range(count):
            head = await self._reader.readexactly(12)
            x, y, width, height, encoding = struct.unpack(">HHHHi", head)
            self._covered += await self._rectangle(x, y, width, height, encoding)
            shown |= encoding in {_RAW, _COPY}
        if not shown:
            # News of the size or the keyboard have used up what was asked for.
            self._ask_at_once()
            return
        self._complete |= self._covered >= self.width * self.height
        self.updates += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def _rectangle(self, x: int, y: int, width: int, height: int, encoding: int) -> int:
        """Take one rectangle; say how many pixels of the screen are known through it."""
        if encoding == _RAW:
            self._check(x, y, width, height)
            await self._raw(x, y, width, height)
            return width * height
        if encoding == _COPY:
            source = struct.unpack(">HH", await self._reader.readexactly(4))
            self._check(x, y, width, height)
            self._check(*source, width, height)
            self._copy(source, (x, y), width, height)
        elif encoding == _DESKTOP_SIZE:
            self._resize(width, height)
        elif encoding == _LED_STATE:
            self.caps_lock = bool((await self._reader.readexactly(1))[0] & _CAPS)
        else:
            raise RfbError(f"the VNC server used the unknown encoding {encoding}")
        return 0

    def _check(self, x: int, y: int, width: int, height: int) -> None:
        if x + width > self.width or y + height > self.height:
            raise RfbError("the VNC server sent a rectangle outside of its screen")

    async def _raw(self, x: int, y: int, width: int, height: int) -> None:
        row, stride = width * 4, self.width * 4
        if row == stride:
            data = await self._reader.readexactly(row * height)
            self.pixels[y * stride : y * stride + len(data)] = data
            return
        for line in range(y, y + height):
            start = line * stride + x * 4
            self.pixels[start : start + row] = await self._reader.readexactly(row)

    def _copy(
        self, source: tuple[int, int], target: tuple[int, int], width: int, height: int
    ) -> None:
        stride, row = self.width * 4, width * 4
        lines = range(height) if source[1] >= target[1] else range(height - 1, -1, -1)
        for line in lines:
            start = (source[1] + line) * stride + source[0] * 4
            end = (target[1] + line) * stride + target[0] * 4
            self.pixels[end : end + row] = self.pixels[start : start + row]


async def handshake(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: str
) -> None:
    """Agree on version 3.8 and get in, up to and without ClientInit.

    Raises:
        RfbError: Not possible.
    """
    greeting = await reader.readexactly(12)
    if not greeting.startswith(b"RFB 003."):
        raise RfbError("this is not a VNC server")
    if greeting[8:11] < b"008":
        raise RfbError(f"the VNC server speaks {greeting[4:11].decode(errors='replace')}, not 3.8")
    writer.write(b"RFB 003.008\n")
    (count,) = await reader.readexactly(1)
    if count == 0:
        raise RfbError(f"the VNC server refused: {await _reason(reader)}")
    offered = await reader.readexactly(count)
    if _NONE in offered:
        writer.write(bytes([_NONE]))
    elif _VNC in offered:
        if not password:
            raise RfbError("the VNC server wants a password, and none is set")
        writer.write(bytes([_VNC]))
        writer.write(answer(await reader.readexactly(16), password))
    else:
        raise RfbError(f"the VNC server offers unsupported security types {list(offered)}")
    (result,) = struct.unpack(">I", await reader.readexactly(4))
    if result:
        raise RfbError(f"the VNC server refused: {await _reason(reader)}")


async def _reason(reader: asyncio.StreamReader) -> str:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    return (await reader.readexactly(min(length, 1000))).decode(errors="replace")


_BUFFER: Final = 1 << 20


async def dial(
    address: str, buffer: int = _BUFFER
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to `unix:/path` or `host:port`.

    Args:
        address: Of the server.
        buffer: Bytes; twice as many are read ahead.

    Raises:
        RfbError: Nobody answers.
    """
    try:
        async with asyncio.timeout(10):
            if address.startswith("unix:"):
                ours = await _unix(address[5:])
                return await asyncio.open_unix_connection(sock=ours, limit=buffer)
            host, _, port = address.rpartition(":")
            return await asyncio.open_connection(host.strip("[]"), int(port), limit=buffer)
    except (OSError, TimeoutError, ValueError) as error:
        raise RfbError(f"no VNC server answers at {address!r}") from error


async def _unix(path: str) -> socket.socket:
    """A connection to a Unix socket, also while its queue is full: that of Xvnc holds six.

    The kernel then refuses at once, which asyncio takes for a connection that is on its way.
    """
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                ours.connect(path)
            except BlockingIOError:
                await asyncio.sleep(_FULL_S)
            else:
                return ours
    except BaseException:
        ours.close()
        raise


_FULL_S: Final = 0.005
