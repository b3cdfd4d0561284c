"""What a desktop runs on: an Xvnc of our own, or the VNC server of somebody else."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog

from steersman_contracts.errors import Unavailable
from steersman_desktop import exchange, look, screens
from steersman_desktop.furnishing import furnished
from steersman_desktop.keys import SHIFT
from steersman_desktop.measures import RESTARTS
from steersman_desktop.places import MARK, Place
from steersman_desktop.processes import Process, start
from steersman_desktop.programs import TASKBAR, WINDOW_MANAGERS, first_of
from steersman_desktop.rfb import RfbClient, RfbError, dial
from steersman_desktop.x11 import XClient

log = structlog.stdlib.get_logger()

Size = tuple[int, int]
_FAMILY_WILD: Final = 0xFFFF
_FAMILY_LOCAL: Final = 256
_STOP_S: Final = 3.0
_LOOK_S: Final = 0.004
"""Between two looks whether the window manager is there: a request of a fraction of that."""
_LOG_IN_S: Final = 20.0
"""For a VNC server to let us in and show its screen."""
_MAX_MANAGERS: Final = 3
"""Times that it is started again on one screen."""


class Machine(Protocol):
    """A screen that can be reached by RFB."""

    @property
    def address(self) -> str:
        """For `dial`."""
        ...

    @property
    def password(self) -> str:
        """Of the VNC server; empty if it wants none."""
        ...

    @property
    def rfb(self) -> RfbClient:
        """Our own connection."""
        ...

    @property
    def x(self) -> XClient | None:
        """The X server behind it, if it is ours."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


@dataclass
class ForeignMachine:
    """The VNC server of somebody else, which goes on when we leave."""

    address: str
    password: str
    rfb: RfbClient
    x: None = None

    @classmethod
    async def open(
        cls, address: str, password: str, timeout_s: float = _LOG_IN_S
    ) -> ForeignMachine:
        """Log in.

        Raises:
            Unavailable: It does not answer, or does not let us in.
        """
        return cls(address, password, await connected(address, password, timeout_s))

    async def stop(self) -> None:
        await self.rfb.close()


@dataclass
class LocalMachine:
    """An Xvnc with a window manager in a place of this host."""

    place: Place
    address: str
    password: str = ""
    processes: list[Process] = field(default_factory=list[Process])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    _rfb: RfbClient | None = None
    _keeping: asyncio.Task[None] | None = None
    x: XClient | None = None

    @property
    def rfb(self) -> RfbClient:
        assert self._rfb is not None  # `open` returns no machine without
        return self._rfb

    @classmethod
    async def open(
        cls, place: Place, size: Size, *, sandbox: bool, timeout_s: float
    ) -> LocalMachine:
        """Start everything and wait until it can be used.

        Raises:
            Unavailable: It did not come up in time, or at all.
        """
        machine = cls(place, f"unix:{place.folder / 'rfb'}")
        try:
            async with asyncio.timeout(timeout_s):
                await machine._start(size, sandbox=sandbox)
        except TimeoutError as error:
            await machine.stop()
            raise Unavailable(
                f"the desktop was not up after {timeout_s:g} s", log=_tail(place)
            ) from error
        except OSError as error:
            await machine.stop()
            raise Unavailable(f"the desktop cannot be started: {error}") from error
        except BaseException:
            await machine.stop()
            raise
        return machine

    async def _start(self, size: Size, *, sandbox: bool) -> None:
        cookie = secrets.token_bytes(16)
        authority = self.place.folder / "cookie"
        # The number of the display is not known yet.
        _write(authority, _entry(_FAMILY_WILD, b"", b"", cookie), self.place)
        number = self._start_xvnc(size, authority)
        try:
            # While Xvnc starts, which takes longest.
            manager = first_of(WINDOW_MANAGERS)
            for path, text in look.files(self.place.folder / "home", sandbox=sandbox).items():
                _write(path, text.encode(), self.place)
            await asyncio.to_thread(screens.load)
            text = await _line(number)
        finally:
            os.close(number)
        if not text.strip().isdigit():
            raise Unavailable("Xvnc did not start", log=_tail(self.place))
        display = int(text)
        host = socket.gethostname().encode()
        entries = _entry(_FAMILY_LOCAL, host, str(display).encode(), cookie)
        _write(authority, entries + _entry(_FAMILY_WILD, b"", b"", cookie), self.place)
        self.environment = _environment(self.place, authority, display)
        self.x = await XClient.open(display, cookie)
        self.x.paint_background(look.BACKGROUND)
        # Before any program runs: Chromium that has seen one key by the map of Xvnc, in which these
        # keys are `BrightnessUp` and the like, goes on taking them for that.
        await self.x.keep_slots_alone()
        if manager is not None:
            self.processes.append(start([manager], self.environment, self.place))
        self._rfb = await connected(self.address, "")
        # At its first key the server exchanges keyboards, and forgets what it has just lent to it.
        for down in (True, False):
            self._rfb.key(SHIFT, down=down)
        taskbar = manager is not None and Path(manager).name == TASKBAR
        while manager is not None and not await self.x.has_window_manager():
            if not self.processes[-1].running:
                log.warning("window_manager.ended", log=_tail(self.place))
                taskbar = False
                break
            await asyncio.sleep(_LOOK_S)
        await furnished(self.rfb, self.x, taskbar=taskbar)
        if manager is not None:
            self._keeping = asyncio.create_task(self._keep(manager), name="window manager")

    async def _keep(self, manager: str) -> None:
        """Start the window manager again when it has died: windows could not be moved any more."""
        for _ in range(_MAX_MANAGERS):
            xvnc, current = self.processes[0], self.processes[-1]
            await asyncio.wait({xvnc.ended, current.ended}, return_when=asyncio.FIRST_COMPLETED)
            if not xvnc.running or self.rfb.lost:
                return  # the whole screen is replaced
            log.warning("window_manager.replaced", log=_tail(self.place))
            RESTARTS.labels("window_manager").inc()
            self.processes[-1] = start([manager], self.environment, self.place)

    def _start_xvnc(self, size: Size, authority: Path) -> int:
        """Start it; gives a descriptor on which it says its number."""
        _x_folder()
        ours, its = os.pipe()
        try:
            argv = _xvnc(self.place, size, authority, its)
            environment = _environment(self.place, authority, None)
            self.processes.append(start(argv, environment, self.place, pass_fds=[its]))
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(its)
        return ours

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        if self.x is not None:
            await self.x.close()
        if self._rfb is not None:
            await self._rfb.close()
        for process in reversed(self.processes):
            await process.stop(_STOP_S)
        await asyncio.to_thread(self.place.leave)


def _xvnc(place: Place, size: Size, authority: Path, display_fd: int) -> list[str]:
    return [
        "Xvnc",
        *("-displayfd", str(display_fd)),
        *("-rfbunixpath", str(place.folder / "rfb"), "-rfbunixmode", "0600"),
        # Without this it would listen on all addresses besides.
        *("-rfbport", "-1"),
        *("-SecurityTypes", "None", "-auth", str(authority), "-nolisten", "tcp"),
        # It would lock everybody out, us too, when a few viewers come at once or leave at its first
        # word: all come from one socket. There is no password to guess.
        "-UseBlacklist=0",
        # Viewers do not get to ask for another size, see `viewing.py`; we do.
        *("-AlwaysShared", "-noreset"),
        *("-geometry", f"{size[0]}x{size[1]}", "-depth", "24", "-desktop", "Steersman"),
    ]


def _environment(place: Place, authority: Path, display: int | None) -> dict[str, str]:
    home = place.folder / "home"
    runtime = place.folder / "run"
    for folder in (home, runtime, place.folder.joinpath(*exchange.FOLDER)):
        if not folder.exists():
            folder.mkdir(mode=0o700)
            _own(folder, place)
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/games",
        "LANG": "C.UTF-8",
        "XAUTHORITY": str(authority),
        "XDG_RUNTIME_DIR": str(runtime),
        MARK: str(place.folder),
    } | ({} if display is None else {"DISPLAY": f":{display}"})


async def connected(address: str, password: str, timeout_s: float = _LOG_IN_S) -> RfbClient:
    """A connection to a VNC server whose screen is known.

    Raises:
        RfbError: It does not answer, or does not let us in.
    """
    reader, writer = await dial(address)
    client = RfbClient(reader, writer)
    try:
        async with asyncio.timeout(timeout_s):
            await client.open(password)
            await client.refresh()
    except TimeoutError as error:
        await client.close()
        raise RfbError("the VNC server does not answer") from error
    except BaseException:
        await client.close()
        raise
    return client


async def _line(descriptor: int) -> str:
    """What is written to a pipe up to a line break or its end."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    text = b""
    while not text.endswith(b"\n"):
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, lambda f=readable: f.done() or f.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        with suppress(BlockingIOError):
            more = os.read(descriptor, 100)
            if not more:
                break
            text += more
    return text.decode(errors="replace")


def _entry(family: int, host: bytes, display: bytes, cookie: bytes) -> bytes:
    fields = (host, display, b"MIT-MAGIC-COOKIE-1", cookie)
    return struct.pack(">H", family) + b"".join(
        struct.pack(">H", len(value)) + value for value in fields
    )


def _write(path: Path, data: bytes, place: Place) -> None:
    for folder in reversed(path.parents):
        if place.folder in folder.parents and not folder.exists():
            folder.mkdir(mode=0o700)
            _own(folder, place)
    path.touch(mode=0o600)
    path.write_bytes(data)
    _own(path, place)


def _own(path: Path, place: Place) -> None:
    if place.uid is not None:
        os.chown(path, place.uid, place.uid)


def _x_folder() -> None:
    """Made by the first Xvnc it would belong to that one's user."""
    folder = Path("/tmp/.X11-unix")  # noqa: S108, RUF100  # X's own place
    if os.geteuid() == 0 and not folder.exists():
        folder.mkdir()
        folder.chmod(0o1777)


def _tail(place: Place) -> str:
    with suppress(OSError):
        return (place.folder / "log").read_text(errors="replace")[-500:]
    return ""
