"""A viewer that takes nothing holds up its own server: what lies between them stays small.

Beside each one that is stuck another one goes on. When that has all there is, the stuck one has had
its time, too; what was taken in for it is then counted, in bytes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from integration.desktop.harness import PATIENCE_S
from litestar import WebSocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc.desktop import ViewGrant
from steersman_desktop.machine import Machine
from steersman_desktop.rfb import RfbClient
from steersman_desktop.session import Session
from steersman_desktop.settings import Settings
from steersman_gateway import live_view
from steersman_runtime.settings import Secret

CHAT = ChatId("01a00000-0000-7000-8000-000000000000")
ANN = UserId("ann")
TOTAL: Final = 16 << 20
UP: Final = 1 << 20
PIECE: Final = bytes(64 << 10)
BOUND: Final = 1 << 20
"""What may be on its way to one that takes nothing, with what the kernel keeps for a socket."""
KERNEL: Final = 64 << 10
"""What the kernel is told to keep; it keeps twice as much."""
TCP: Final = 256 << 10
"""The same over TCP, which stops and goes with less."""
ENTER: Final = b"RFB 003.008\n\x01\x01"
ASKING: Final = struct.pack(">BBHHHH", 3, 1, 0, 0, 1, 1) * 6000


@dataclass
class Server:
    """A VNC server, as far as bytes go."""

    address: str
    password: str = ""
    x: None = None

    @property
    def rfb(self) -> RfbClient:
        raise AssertionError("nobody acts here")

    async def stop(self) -> None:
        """Nothing to end."""


@asynccontextmanager
async def listening(
    path: Path, serve: Callable[[int, socket.socket], Awaitable[None]]
) -> AsyncGenerator[Machine]:
    """Serve each connection, the first as 0; through sockets that hold little."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    with socket.socket(socket.AF_UNIX) as listener:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            listener.setsockopt(socket.SOL_SOCKET, option, KERNEL)
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)

        async def one(number: int, connection: socket.socket) -> None:
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
                await serve(number, connection)

        async def accept() -> None:
            for number in range(2):
                connection, _ = await loop.sock_accept(listener)
                tasks.append(loop.create_task(one(number, connection)))

        tasks.append(loop.create_task(accept()))
        try:
            yield Server(f"unix:{path}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Viewer:
    """The end of a viewer: takes nothing, or counts what it takes; says so much and then waits."""

    def __init__(self, *, stuck: bool = False, says: int = 0) -> None:
        self._stuck = stuck
        self._says = says
        self.said = 0
        self.taken = 0
        self.has = asyncio.Condition()

    async def send(self, data: bytes) -> None:
        if self._stuck:
            await asyncio.Event().wait()
        async with self.has:
            self.taken += len(data)
            self.has.notify_all()

    async def receive(self) -> bytes | None:
        if not self.said:
            self.said = len(ENTER)
            return ENTER
        if self.said >= self._says:
            await asyncio.Event().wait()
        self.said += len(ASKING)
        return ASKING


@asynccontextmanager
async def watching(machine: Machine, *viewers: Viewer) -> AsyncGenerator[None]:
    """Let them watch the same desktop, in this order."""

    async def no_start(size: tuple[int, int]) -> Machine:
        raise AssertionError(f"nothing is to be started: {size}")

    def no_change(*what: object) -> None:
        raise AssertionError(f"nobody takes control: {what}")

    session = Session(
        CHAT,
        (640, 480),
        Settings(nats_url=Secret("nats://none")),
        open_machine=no_start,
        on_control=no_change,
    )
    tasks: list[asyncio.Task[Any]] = []
    for viewer in viewers:
        running = session.views.run(machine, viewer, ANN, "view")
        tasks.append(asyncio.get_running_loop().create_task(running))
        await asyncio.sleep(0)  # it dials first
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_desktop_reads_no_more_for_a_viewer_than_that_takes(tmp_path: Path) -> None:
    accepted = [0, 0]

    async def flood(number: int, connection: socket.socket) -> None:
        while accepted[number] < TOTAL:
            await asyncio.get_running_loop().sock_sendall(connection, PIECE)
            accepted[number] += len(PIECE)
        await asyncio.Event().wait()

    stuck, eager = Viewer(stuck=True), Viewer()
    async with (
        listening(tmp_path / "rfb", flood) as machine,
        watching(machine, stuck, eager),
        asyncio.timeout(PATIENCE_S),
        eager.has,
    ):
        await eager.has.wait_for(lambda: eager.taken >= TOTAL)

    assert 0 < accepted[0] <= BOUND
    assert (eager.taken, accepted[1]) == (TOTAL, TOTAL)


async def test_the_desktop_takes_no_more_of_a_viewer_than_its_server_reads(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def read(number: int, connection: socket.socket) -> None:
        got = 0
        while number == 1 and got < UP:
            got += len(await asyncio.get_running_loop().sock_recv(connection, len(PIECE)))
        if number == 1:
            done.set()
        await asyncio.Event().wait()

    stuck, eager = Viewer(says=2 * UP), Viewer(says=2 * UP)
    async with (
        listening(tmp_path / "rfb", read) as machine,
        watching(machine, stuck, eager),
        asyncio.timeout(PATIENCE_S),
    ):
        await done.wait()

    assert len(ENTER) < stuck.said <= BOUND // 2
    assert eager.said >= UP


async def test_the_gateway_reads_no_more_for_a_viewer_than_that_takes() -> None:
    accepted = [0, 0]
    numbers = iter(range(2))

    async def flood(connection: ServerConnection) -> None:
        number = next(numbers)
        connection.transport.set_write_buffer_limits(high=0)
        raw: socket.socket = connection.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TCP)
        with suppress(ConnectionClosed):
            while accepted[number] < TOTAL:
                await connection.send(PIECE)
                accepted[number] += len(PIECE)
        await connection.wait_closed()

    taken = asyncio.Event()
    got = 0

    async def stuck(message: Any) -> None:
        await asyncio.Event().wait()

    async def eager(message: Any) -> None:
        nonlocal got
        got += len(message.get("bytes") or b"")
        if got >= TOTAL:
            taken.set()

    async with serve(flood, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        grant = ViewGrant(ANN, "view", f"127.0.0.1:{port}", "key")
        tasks: list[asyncio.Task[Any]] = []
        ways: list[asyncio.Transport] = []
        for send in (stuck, eager):
            upstream = await live_view._dial(grant)  # pyright: ignore[reportPrivateUsage]  # of the whole view this is what carries
            ways.append(upstream.transport)
            raw: socket.socket = upstream.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TCP)
            end = WebSocket[Any, Any, Any]({"type": "websocket"}, nothing, send)  # pyright: ignore[reportArgumentType]  # all that is looked at
            end.connection_state = "receive"  # it is accepted
            carrying = live_view._down(upstream, end, PATIENCE_S)  # pyright: ignore[reportPrivateUsage]  # see above
            tasks.append(asyncio.create_task(carrying))
        async with asyncio.timeout(PATIENCE_S):
            await taken.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for way in ways:
            way.abort()  # goodbye could not be said to who takes nothing

    assert 0 < accepted[0] <= BOUND + 4 * TCP
    assert (got, accepted[1]) == (TOTAL, TOTAL)


async def test_a_viewer_that_takes_nothing_is_shown_out() -> None:
    async def show(connection: ServerConnection) -> None:
        await connection.send(PIECE)
        await connection.wait_closed()

    async def stuck(message: Any) -> None:
        await asyncio.Event().wait()

    async with serve(show, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        grant = ViewGrant(ANN, "view", f"127.0.0.1:{port}", "key")
        upstream = await live_view._dial(grant)  # pyright: ignore[reportPrivateUsage]  # as above
        end = WebSocket[Any, Any, Any]({"type": "websocket"}, nothing, stuck)  # pyright: ignore[reportArgumentType]  # all that is looked at
        end.connection_state = "receive"  # it is accepted
        async with asyncio.timeout(PATIENCE_S):
            ended = await live_view._down(upstream, end, 0.01)  # pyright: ignore[reportPrivateUsage]  # as above
        await upstream.close()

    assert ended == live_view.Ended(1013, live_view.TAKES_NOTHING)


async def nothing() -> Any:
    """What a viewer says that says nothing."""
    await asyncio.Event().wait()
