"""Desktops in use: the live view through the gateway, taking control, and eight at once."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Final
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.context import FAKE, Bench, expect, gather
from bench.figures import Budget, Figure, Row, over_rounds, percentile
from bench.http import Address, Api
from steersman_contracts.desktop import HoldKeys, PressKeys, TakeScreenshot
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc.chats import SendReply
from steersman_contracts.rpc.desktop import (
    Desktop,
    DesktopControl,
    DesktopTicket,
    PerformAction,
)
from steersman_desktop.machine import LocalMachine, Machine
from steersman_desktop.operating import Operator
from steersman_desktop.places import Places
from steersman_desktop.programs import missing_programs
from steersman_desktop.session import Session
from steersman_desktop.settings import Settings
from steersman_runtime.settings import Secret

_MODEL: Final = f"{FAKE}/tokens-20"
_SIZE: Final = (1280, 800)
_SCREENS: Final = 12
_TRIPS: Final = 200
_TAKES: Final = 20
_AT_ONCE: Final = 8
_STARTS: Final = 7
_PERSON: Final = UserId("bench")


async def measure(bench: Bench) -> list[Row]:
    """Nothing where there is no Xvnc."""
    if missing_programs():
        return []
    address = await bench.address()
    firsts = await _first_pictures(address)
    speed, trips = await _view(address)
    places = Places("", _AT_ONCE + 4, 61_300)
    takes = await _take_over(places)
    started, looks = await _together(places)
    return [
        _row(
            "desktop over REST: start to first picture, p50",
            "ms",
            over_rounds([percentile(firsts, 0.5)]),
            Budget(230, "ms"),
            len(firsts),
        ),
        _row(
            "live view through the gateway: whole screens",
            "MB/s",
            over_rounds([speed]),
            Budget(104, "MB/s", at_least=True),
            _SCREENS,
        ),
        _row(
            "live view through the gateway: one pixel and back, p50",
            "ms",
            over_rounds([percentile(trips, 0.5)]),
            Budget(1.5, "ms"),
            len(trips),
        ),
        _row(
            "take over: from the request until the agent's input is refused, p95",
            "ms",
            over_rounds([percentile(takes, 0.95)]),
            Budget(300, "ms"),
            len(takes),
        ),
        _row(
            f"{_AT_ONCE} desktops started at once: until all are seen",
            "ms",
            over_rounds([started]),
            None,
            _AT_ONCE,
        ),
        _row(
            f"screenshot while {_AT_ONCE} desktops are looked at, p50",
            "ms",
            over_rounds([percentile(looks, 0.5)]),
            None,
            len(looks),
        ),
    ]


def _row(what: str, unit: str, measured: Figure, budget: Budget | None, samples: int) -> Row:
    return Row(
        scenario="desktop_views",
        what=what,
        unit=unit,
        measured=measured,
        budget=budget,
        samples=samples,
        rounds=1,
    )


# -- the first picture ----------------------------------------------------------------------------


async def _first_pictures(address: Address) -> list[float]:
    """What a person waits for: of a chat without a desktop, all the way through the gateway."""
    api = Api(address)
    chat = (await api.call("POST", "/chats", SendReply, {"model": _MODEL})).chat.id
    path = f"/chats/{chat}/desktop"
    took: list[float] = []
    for _ in range(_STARTS):
        await api.ready()
        began = time.perf_counter()
        await api.call("PUT", path, Desktop, {"width": _SIZE[0], "height": _SIZE[1]})
        picture = await api.raw("GET", f"{path}/screenshot")
        took.append((time.perf_counter() - began) * 1000)
        expect(picture.startswith(b"\x89PNG"), "the first picture is none")
        await api.raw("DELETE", path)
    api.close()
    return took


# -- the live view --------------------------------------------------------------------------------


async def _view(address: Address) -> tuple[float, list[float]]:
    api = Api(address)
    chat = (await api.call("POST", "/chats", SendReply, {"model": _MODEL})).chat.id
    path = f"/chats/{chat}/desktop"
    await api.call("PUT", path, Desktop, {"width": _SIZE[0], "height": _SIZE[1]})
    ticket = await api.call("POST", f"{path}/ticket", DesktopTicket, {"mode": "view"})
    base = f"ws://{address.host}:{address.port}/api/v1{path}"
    url = f"{base}?ticket={quote(ticket.ticket)}"
    async with connect(
        url, subprotocols=[Subprotocol("binary")], proxy=None, compression=None, max_size=None
    ) as socket:
        view = _View(socket)
        await view.enter()
        await view.update(*_SIZE)
        began = time.perf_counter()
        for _ in range(_SCREENS):
            await view.update(*_SIZE)
        speed = _SCREENS * _SIZE[0] * _SIZE[1] * 4 / 1e6 / (time.perf_counter() - began)
        trips: list[float] = []
        for _ in range(_TRIPS):
            began = time.perf_counter()
            await view.update(1, 1)
            trips.append((time.perf_counter() - began) * 1000)
    api.close()
    return speed, trips


class _View:
    """A viewer that counts what it gets and looks at none of it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._rest = bytearray()

    async def _exactly(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._rest += await self._socket.recv(decode=False)
        taken = bytes(self._rest[:count])
        del self._rest[:count]
        return taken

    async def enter(self) -> None:
        await self._exactly(12)
        await self._socket.send(b"RFB 003.008\n")
        await self._exactly(2)
        await self._socket.send(b"\x01")
        await self._exactly(4)
        await self._socket.send(b"\x01")
        head = await self._exactly(24)
        await self._exactly(int.from_bytes(head[20:], "big"))
        await self._socket.send(struct.pack(">BxHi", 2, 1, 0))

    async def update(self, width: int, height: int) -> None:
        """Ask for a part of the screen, raw, and wait for all of it."""
        await self._socket.send(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        (count,) = struct.unpack(">xxH", await self._exactly(4))
        for _ in range(count):
            _, _, w, h, _ = struct.unpack(">HHHHi", await self._exactly(12))
            await self._exactly(w * h * 4)


# -- taking control -------------------------------------------------------------------------------


async def _take_over(places: Places) -> list[float]:
    """The agent holds a key each time: that must end, and its next one be refused."""

    async def open_machine(size: tuple[int, int]) -> Machine:
        place = await asyncio.to_thread(places.take)
        return await LocalMachine.open(place, size, sandbox=True, timeout_s=30)

    settings = Settings(nats_url=Secret("nats://nowhere"))
    chat = ChatId("01a00000-0000-7000-8000-000000000000")
    session = Session(
        chat,
        _SIZE,
        settings,
        open_machine=open_machine,
        on_control=_tell_nobody,
    )
    takes: list[float] = []
    try:
        for number in range(_TAKES):
            await _look(session, chat, f"look-{number}")
            hold = PerformAction(chat, f"hold-{number}", HoldKeys("shift", 60.0))
            holding = asyncio.ensure_future(session.perform(hold))
            while not session.acting:  # noqa: ASYNC110  # nobody tells of it
                await asyncio.sleep(0.001)
            began = time.perf_counter()
            session.take_control(_PERSON, private=False)
            ended = await holding
            refused = await session.perform(PerformAction(chat, f"k-{number}", PressKeys("a")))
            takes.append((time.perf_counter() - began) * 1000)
            expect(ended.is_error and refused.is_error, "the agent's input went on")
            session.return_control(_PERSON)
    finally:
        await session.stop("the bench is over")
    return takes


def _tell_nobody(chat: ChatId, control: DesktopControl, before: UserId | None) -> None:
    del chat, control, before


async def _look(session: Session, chat: ChatId, key: str) -> None:
    reply = await session.perform(PerformAction(chat, key, TakeScreenshot()))
    expect(not reply.is_error, reply.text)


# -- eight ----------------------------------------------------------------------------------------


async def _together(places: Places) -> tuple[float, list[float]]:
    began = time.perf_counter()
    machines: list[LocalMachine] = []

    async def one() -> None:
        place = await asyncio.to_thread(places.take)
        machine = await LocalMachine.open(place, _SIZE, sandbox=True, timeout_s=60)
        machines.append(machine)
        picture = await Operator(machine.rfb, machine.x).look()
        expect(picture.data, "the first picture is empty")

    looks: list[float] = []
    try:
        await gather(one() for _ in range(_AT_ONCE))
        started = (time.perf_counter() - began) * 1000
        for _ in range(3):
            for machine in machines:
                at = time.perf_counter()
                await Operator(machine.rfb, machine.x).look()
                looks.append((time.perf_counter() - at) * 1000)
    finally:
        for machine in machines:
            await machine.stop()
    return started, looks
