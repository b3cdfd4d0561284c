"""The people who watch one desktop: each has a connection to the VNC server of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from prometheus_client import Counter, Gauge

from steersman_contracts.errors import TooManyRequests
from steersman_contracts.ids import UserId
from steersman_contracts.rpc.desktop import ViewMode
from steersman_desktop.control import person_may_act
from steersman_desktop.gestures import Gestures
from steersman_desktop.machine import ForeignMachine, Machine
from steersman_desktop.rfb import RfbError, dial, handshake
from steersman_desktop.viewing import NotRfb, ViewerStream
from steersman_desktop.x11 import XClient, XError

if TYPE_CHECKING:
    from steersman_desktop.session import Session

log = structlog.stdlib.get_logger()

CHUNK: Final = 64 << 10
"""Bytes that are carried at a time; a few of these are all that lies here for a slow viewer."""
_AT_ONCE: Final = 120
"""Bytes of a viewer in one go: no more new keys at once than there are slots for them."""
ENTER_S: Final = 20.0
"""For a viewer to say who it is: one that never does has no place among those who watch."""
SILENT: Final = "the viewer did not say who it is"
VIEWERS: Final = Gauge("steersman_desktop_viewers", "Live views that are open.")
RELAYED: Final = Counter("steersman_desktop_relayed_bytes_total", "Bytes to viewers.")
RECEIVED: Final = Counter("steersman_desktop_received_bytes_total", "Bytes from viewers.")
DROPPED: Final = Counter("steersman_desktop_dropped_inputs_total", "Input of viewers, refused.")


class Socket(Protocol):
    """The viewer's end: bytes both ways."""

    async def send(self, data: bytes) -> None:
        """Returns once the viewer has taken what came before: a slow one holds the server up."""
        ...

    async def receive(self) -> bytes | None:
        """The next bytes; None when the viewer is gone."""
        ...


class Closed(Exception):
    """A view ends, with a WebSocket close code and its reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class View:
    """One viewer."""

    def __init__(self, session: Session, user: UserId, mode: ViewMode) -> None:
        self.user = user
        self.mode = mode
        self._session = session
        self._writer: asyncio.StreamWriter | None = None
        self._stream: ViewerStream | None = None
        self.ended: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._gestures = Gestures(session.declared)

    def _on_input(self, message: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._session.person_did(self.user, self._gestures.feed((message,), now))

    def check_gestures(self, now: float) -> None:
        """Tell of what the viewer has finished doing."""
        self._session.person_did(self.user, self._gestures.quiet(now))

    def may_control(self) -> bool:
        """Whether what this viewer presses reaches the desktop now."""
        return self.mode == "control" and person_may_act(self._session.lease, self.user)

    @property
    def holds(self) -> bool:
        """Whether this viewer holds a key or a button."""
        return self._stream is not None and self._stream.holds

    def release(self) -> None:
        """Let go of everything that this viewer holds: the server would keep buttons down."""
        self._session.person_did(self.user, self._gestures.end())
        if self._stream is None or self._writer is None or self._writer.is_closing():
            return
        with suppress(OSError):
            self._writer.write(self._stream.releases())

    async def run(self, machine: Machine, socket: Socket) -> Closed:
        """Carry bytes until either side ends, or somebody ends it; say why."""
        try:
            reader, self._writer = await dial(machine.address, CHUNK)
        except RfbError:
            return Closed(4404, "the desktop does not answer")
        try:
            foreign = isinstance(machine, ForeignMachine)
            # Otherwise `drain` returns while keys are still here, because they are so small.
            self._writer.transport.set_write_buffer_limits(high=0)
            self._stream = ViewerStream(self.may_control, greeted=foreign)
            self._stream.on_input = self._on_input
            first = b""
            if foreign:
                async with asyncio.timeout(ENTER_S):
                    await handshake(reader, self._writer, machine.password)
                    first = await _greet(socket)
            tasks = {
                asyncio.ensure_future(self._down(reader, socket)),
                asyncio.ensure_future(
                    self._up(self._stream, self._writer, socket, first, machine.x)
                ),
                asyncio.ensure_future(enters(self._stream, ENTER_S)),
            }
            await asyncio.wait({*tasks, self.ended}, return_when=asyncio.FIRST_COMPLETED)
            return await self._reason(tasks)
        except TimeoutError:  # which is an `OSError`, too
            return Closed(1002, SILENT)
        except (RfbError, asyncio.IncompleteReadError, OSError):
            return Closed(4410, "the desktop ended")
        except NotRfb as error:
            return Closed(1002, str(error))
        finally:
            self.release()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._writer.drain()
            self._writer.close()

    async def _reason(self, tasks: set[asyncio.Task[Closed]]) -> Closed:
        reasons = [task.result() for task in tasks if task.done() and not task.cancelled()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return self.ended.result() if self.ended.done() else reasons[0]

    async def _down(self, reader: asyncio.StreamReader, socket: Socket) -> Closed:
        try:
            while data := await reader.read(CHUNK):
                await socket.send(data)
                RELAYED.inc(len(data))
        except OSError:
            pass
        return Closed(4410, "the desktop ended")

    async def _up(
        self,
        stream: ViewerStream,
        writer: asyncio.StreamWriter,
        socket: Socket,
        first: bytes,
        x: XClient | None,
    ) -> Closed:
        data: bytes | None = first
        try:
            while data is not None:
                RECEIVED.inc(len(data))
                for at in range(0, len(data), _AT_ONCE):
                    await self._feed(stream, writer, data[at : at + _AT_ONCE], x)
                data = await socket.receive()
        except NotRfb as error:
            return Closed(1002, str(error))
        except OSError:
            return Closed(4410, "the desktop ended")
        return Closed(1000, "")

    async def _feed(
        self, stream: ViewerStream, writer: asyncio.StreamWriter, data: bytes, x: XClient | None
    ) -> None:
        inputs, dropped = stream.inputs, stream.dropped
        passed = stream.feed(data)
        if x is not None and stream.keysyms:
            await writer.drain()
            with suppress(XError):  # the end of the desktop is told elsewhere
                await x.lend(stream.keysyms)
        writer.write(passed)
        if stream.inputs > inputs:
            self._session.person_acted(self.user)
        if stream.dropped > dropped:
            DROPPED.inc(stream.dropped - dropped)
        await writer.drain()


async def enters(stream: ViewerStream, within_s: float) -> Closed:
    """Ends when the viewer has not said in time who it is, and not before its view if it has."""
    await asyncio.sleep(within_s)
    if not stream.entered:
        return Closed(1002, SILENT)
    return await asyncio.get_running_loop().create_future()  # the others say when it ends


async def _greet(socket: Socket) -> bytes:
    """Be the server for as long as the viewer gets in; gives what it sent after that."""
    buffer = b""

    async def exactly(count: int) -> bytes:
        nonlocal buffer
        while len(buffer) < count:
            data = await socket.receive()
            if data is None:
                raise asyncio.IncompleteReadError(buffer, count)
            buffer += data
        taken, buffer = buffer[:count], buffer[count:]
        return taken

    await socket.send(b"RFB 003.008\n")
    if await exactly(12) != b"RFB 003.008\n":
        raise NotRfb("only version 3.8 of RFB is spoken here")
    await socket.send(b"\x01\x01")
    if await exactly(1) != b"\x01":
        raise NotRfb("a security type that was not offered")
    await socket.send(bytes(4))
    return buffer


class Views:
    """All viewers of one desktop."""

    def __init__(self, session: Session, limit: int) -> None:
        self._session = session
        self._limit = limit
        self._views: set[View] = set()
        self._seen: set[UserId] = set()

    def __len__(self) -> int:
        return len(self._views)

    def has(self, user: UserId) -> bool:
        """Whether this person watches, with the right to control."""
        return any(view.user == user and view.mode == "control" for view in self._views)

    def had(self, user: UserId) -> bool:
        """Whether this person has ever watched; control over REST alone needs no view."""
        return user in self._seen

    async def run(self, machine: Machine, socket: Socket, user: UserId, mode: ViewMode) -> Closed:
        """Let somebody watch until it ends.

        Raises:
            TooManyRequests: As many as may watch already.
        """
        if len(self._views) >= self._limit:
            raise TooManyRequests(f"{self._limit} people watch already", limit=self._limit)
        view = View(self._session, user, mode)
        self._views.add(view)
        if mode == "control":
            self._seen.add(user)
        VIEWERS.inc()
        try:
            return await view.run(machine, socket)
        finally:
            self._views.discard(view)
            VIEWERS.dec()

    @property
    def any_holds(self) -> bool:
        """Whether a viewer holds a key or a button."""
        return any(view.holds for view in self._views)

    def check_gestures(self, now: float) -> None:
        """Tell of what viewers have finished doing."""
        for view in self._views:
            view.check_gestures(now)

    def release_all_but(self, holder: UserId | None) -> None:
        """Let go of what everybody holds who has no control any more."""
        for view in self._views:
            if view.user != holder:
                view.release()

    def close(self, code: int, reason: str) -> None:
        """End all views."""
        for view in self._views:
            if not view.ended.done():
                view.ended.set_result(Closed(code, reason))
