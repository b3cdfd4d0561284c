"""The live view from end to end: gateways, tickets, rights, and bytes that stay as they are."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import websockets
from integration.desktop.harness import (
    MANY_VIEWERS,
    PATIENCE_S,
    RunningDesktop,
    needs_xvnc,
    until,
)
from integration.gateway.driver import RunningGateway, running_gateway
from integration.gateway.stand_in import StandInStore, stand_in_store
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection, connect

from steersman.embedded.nats import NatsServer
from steersman_contracts.ids import ChatId
from steersman_desktop.machine import LocalMachine
from steersman_desktop.rfb import RfbClient

pytestmark = needs_xvnc
GREETING = b"RFB 003.008\n"


@dataclass
class Site:
    """A chat with a desktop, two gateways, its owner and a stranger."""

    gateways: tuple[RunningGateway, RunningGateway]
    store: StandInStore
    chat_id: ChatId
    ann: httpx2.AsyncClient
    stranger: httpx2.AsyncClient

    @property
    def path(self) -> str:
        return f"/api/v1/chats/{self.chat_id}/desktop"

    async def ticket(self, mode: str = "view") -> str:
        reply = await self.ann.post(f"{self.path}/ticket", json={"mode": mode})
        assert reply.status_code == 200, reply.text
        return reply.json()["ticket"]

    def address(self, query: str, gateway: int = 0) -> str:
        return self.gateways[gateway].address.replace("http", "ws") + f"{self.path}?{query}"

    async def position(self) -> str:
        reply = await self.ann.post(f"{self.path}/actions", json={"action": "cursor_position"})
        return reply.json()["text"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store(nats: NatsServer) -> AsyncGenerator[StandInStore]:
    async with stand_in_store(nats.url(), ("store", "tools")) as store:
        yield store


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateways(
    nats: NatsServer, store: StandInStore
) -> AsyncGenerator[tuple[RunningGateway, RunningGateway]]:
    del store
    async with (
        running_gateway(nats.url()) as first,
        running_gateway(nats.url(), recheck_interval_s=0.1) as second,
    ):
        yield first, second


@pytest_asyncio.fixture(loop_scope="session")
async def site(
    desktop: RunningDesktop,
    store: StandInStore,
    gateways: tuple[RunningGateway, RunningGateway],
) -> AsyncGenerator[Site]:
    del desktop
    async with (
        gateways[0].client("token-ann") as ann,
        gateways[0].client("token-zoe") as stranger,
    ):
        owner = store.add_user("token-ann")
        store.add_user("token-zoe")
        site = Site(gateways, store, store.add_chat(owner), ann, stranger)
        started = await ann.put(site.path, json={"width": 640, "height": 480})
        assert (started.status_code, started.json()["state"]) == (200, "ready")
        yield site
        await ann.delete(site.path)


@asynccontextmanager
async def watching(
    site: Site, ticket: str, gateway: int = 0, **options: Any
) -> AsyncGenerator[ClientConnection]:
    async with connect(
        site.address(f"ticket={ticket}", gateway),
        subprotocols=[websockets.Subprotocol("binary")],
        proxy=None,
        **options,
    ) as socket:
        assert socket.subprotocol == "binary"
        yield socket


class Bytes:
    """A WebSocket as a stream of bytes."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._rest = b""

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            while len(self._rest) < count:
                self._rest += await self.socket.recv(decode=False)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    async def enter(self) -> tuple[int, int]:
        """Shake hands; gives the size of the screen."""
        assert await self.exactly(12) == GREETING
        await self.socket.send(GREETING)
        assert await self.exactly(2) == b"\x01\x01"
        await self.socket.send(b"\x01")
        assert await self.exactly(4) == bytes(4)
        await self.socket.send(b"\x01")
        head = await self.exactly(24)
        await self.exactly(int.from_bytes(head[20:], "big"))
        return struct.unpack(">HH", head[:4])

    async def ask(self, width: int, height: int, *, incremental: bool = False) -> None:
        """Ask for the screen from its upper left, raw."""
        await self.socket.send(struct.pack(">BxHi", 2, 1, 0))
        await self.socket.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, width, height))

    async def pixels(self, width: int, height: int) -> bytes:
        """The screen from its upper left, as it is."""
        await self.ask(width, height)
        return await self.update(width, height)

    async def update(self, width: int, height: int) -> bytes:
        """An update that was asked for; black where nothing came."""
        screen = bytearray(width * height * 4)
        (count,) = struct.unpack(">xxH", await self.exactly(4))
        for _ in range(count):
            x, y, w, h, encoding = struct.unpack(">HHHHi", await self.exactly(12))
            assert encoding == 0
            for line in range(y, y + h):
                start = (line * width + x) * 4
                screen[start : start + w * 4] = await self.exactly(w * 4)
        return bytes(screen)


def pointer(x: int, y: int, buttons: int = 0) -> bytes:
    return struct.pack(">BBHH", 5, buttons, x, y)


async def in_order(viewer: Bytes) -> None:
    """Wait until the server has worked off what this viewer sent."""
    await viewer.pixels(640, 480)


async def test_the_view_shows_byte_for_byte_what_the_server_sends(
    site: Site, desktop: RunningDesktop
) -> None:
    machine = desktop.service.sessions[site.chat_id].machine
    assert isinstance(machine, LocalMachine)
    reader, writer = await asyncio.open_unix_connection(machine.address.removeprefix("unix:"))
    direct = RfbClient(reader, writer)
    await direct.open()
    try:
        async with (
            watching(site, await site.ticket()) as socket,
            asyncio.timeout(PATIENCE_S),
        ):
            viewer = Bytes(socket)
            assert await viewer.enter() == (640, 480)
            while True:  # the window manager paints for a moment
                seen = await viewer.pixels(640, 480)
                await direct.refresh()
                # The fourth byte of a pixel means nothing.
                if all(seen[i::4] == bytes(direct.pixels[i::4]) for i in range(3)):
                    break
    finally:
        await direct.close()


async def test_a_ticket_is_good_once_over_all_gateways(site: Site) -> None:
    ticket = await site.ticket()

    async with watching(site, ticket, 1) as socket:
        assert await socket.recv(decode=False) == GREETING
        for gateway in (0, 1):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with watching(site, ticket, gateway):
                    pass
            assert refused.value.response.status_code == 404


async def test_of_two_that_bring_a_ticket_at_once_one_gets_in(
    site: Site, desktop: RunningDesktop
) -> None:
    session = desktop.service.sessions[site.chat_id]

    async def enter(ticket: str, gateway: int) -> int:
        try:
            async with watching(site, ticket, gateway) as socket:
                assert await Bytes(socket).exactly(12) == GREETING
                return 101
        except websockets.InvalidStatus as refused:
            return refused.response.status_code

    tickets = [await site.ticket() for _ in range(8)]
    found = await asyncio.gather(
        *(enter(ticket, gateway) for ticket in tickets for gateway in (0, 1, 0))
    )

    assert [sorted(found[at : at + 3]) for at in range(0, len(found), 3)] == [[101, 404, 404]] * 8
    await until(lambda: len(session.views) == 0)


async def test_a_hundred_watch_over_two_gateways(site: Site, desktop: RunningDesktop) -> None:
    session = desktop.service.sessions[site.chat_id]
    corner = (16, 16)

    async with AsyncExitStack() as views, asyncio.timeout(2 * PATIENCE_S):

        async def enter(number: int) -> Bytes:
            ticket = await site.ticket("control" if number == 0 else "view")
            viewer = Bytes(await views.enter_async_context(watching(site, ticket, number % 2)))
            assert await viewer.enter() == (640, 480)
            return viewer

        viewers: list[Bytes] = []
        for start in range(0, MANY_VIEWERS, 20):
            viewers += await asyncio.gather(*map(enter, range(start, start + 20)))
        assert len(session.views) == MANY_VIEWERS
        late = await views.enter_async_context(watching(site, await site.ticket()))
        await late.wait_closed()

        await site.ann.post(f"{site.path}/control", json={})
        await viewers[0].socket.send(pointer(300, 300))
        before = await asyncio.gather(*(viewer.pixels(*corner) for viewer in viewers))
        for viewer in viewers:
            await viewer.ask(*corner, incremental=True)
        # One of them has all of the screen sent, and takes none of it: the others go on.
        await viewers[1].ask(640, 480)
        for viewer in viewers[1:]:
            await viewer.socket.send(pointer(100, 100, 1))
        await viewers[0].socket.send(pointer(8, 8))
        told = viewers[:1] + viewers[2:]
        await asyncio.gather(*(viewer.update(*corner) for viewer in told))
        after = await asyncio.gather(*(viewer.pixels(*corner) for viewer in told))
        where = await site.position()
        # With what it has not taken it could not say goodbye.
        viewers[1].socket.transport.abort()
    await until(lambda: len(session.views) == 0)

    assert (late.close_code, late.close_reason) == (4409, f"{MANY_VIEWERS} people watch already")
    assert len(set(before)) == 1
    assert len(set(after)) == 1
    assert set(after) != set(before)
    assert where == "X=8,Y=8"


async def test_who_has_no_right_gets_in_nowhere(site: Site) -> None:
    for method, path in (
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("GET", "/screenshot"),
        ("POST", "/actions"),
        ("POST", "/control"),
        ("DELETE", "/control"),
        ("POST", "/ticket"),
    ):
        body = {"action": "screenshot"} if path == "/actions" else {}
        reply = await site.stranger.request(method, site.path + path, json=body)
        assert (method, path, reply.status_code) == (method, path, 404)
    refusals = {
        "": 401,
        "ticket=": 401,
        "ticket=guess": 404,
        f"ticket={await site.ticket()}&ticket=x": 401,
    }
    for query, status in refusals.items():
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect(site.address(query), proxy=None):
                pass
        assert (query, refused.value.response.status_code) == (query, status)
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with watching(
            site, await site.ticket(), additional_headers={"Origin": "https://evil.example"}
        ):
            pass
    assert refused.value.response.status_code == 403


async def test_only_who_has_control_reaches_the_desktop(site: Site) -> None:
    before = await site.position()
    async with (
        watching(site, await site.ticket("control")) as first,
        watching(site, await site.ticket("view")) as second,
    ):
        person, viewer = Bytes(first), Bytes(second)
        for one in (person, viewer):
            await one.enter()
            await one.socket.send(pointer(11, 12))
            await in_order(one)
        assert await site.position() == before

        await site.ann.post(f"{site.path}/control", json={})
        await viewer.socket.send(pointer(21, 22))
        await in_order(viewer)
        assert await site.position() == before
        # Cut anywhere, glued anyhow.
        message = pointer(31, 32, 1) + pointer(33, 34, 1)
        for byte in message:
            await person.socket.send(bytes([byte]))
        await in_order(person)
        assert await site.position() == "X=33,Y=34"

        await site.ann.delete(f"{site.path}/control")
        await person.socket.send(pointer(41, 42))
        await in_order(person)
        assert await site.position() == "X=33,Y=34"


async def test_either_side_closes_the_other(site: Site, desktop: RunningDesktop) -> None:
    session = desktop.service.sessions[site.chat_id]
    async with watching(site, await site.ticket()) as socket:
        await Bytes(socket).enter()
        assert len(session.views) == 1
    await until(lambda: len(session.views) == 0)

    async with watching(site, await site.ticket()) as socket:
        viewer = Bytes(socket)
        await viewer.enter()
        await site.ann.delete(site.path)
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()

    assert socket.close_code == 4410


async def test_who_loses_the_right_is_shown_out(site: Site) -> None:
    async with watching(site, await site.ticket(), gateway=1) as socket:
        await Bytes(socket).enter()

        del site.store.chats[site.chat_id]
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()

    assert socket.close_code == 4403


async def test_what_is_not_rfb_ends_the_view(site: Site) -> None:
    name = "steersman_desktop_received_bytes_total"
    before = REGISTRY.get_sample_value(name) or 0.0
    async with watching(site, await site.ticket()) as socket:
        await Bytes(socket).enter()
        await socket.send(b"\x63nonsense")
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()

    assert socket.close_code == 1002
    assert (REGISTRY.get_sample_value(name) or 0.0) >= before + len(b"\x63nonsense")


async def test_a_screenshot_and_an_action_over_rest(site: Site) -> None:
    picture = await site.ann.get(f"{site.path}/screenshot")
    alone = await site.ann.post(
        f"{site.path}/actions", json={"action": "mouse_move", "coordinate": [5, 6]}
    )
    await site.ann.post(f"{site.path}/control", json={"private": True})
    moved = await site.ann.post(
        f"{site.path}/actions", json={"action": "mouse_move", "coordinate": [5, 6]}
    )
    outside = await site.ann.post(
        f"{site.path}/actions", json={"action": "left_click", "coordinate": [640, 6]}
    )

    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert (alone.status_code, moved.status_code) == (403, 200)
    assert moved.json() == {"text": "Moved the pointer to 5,6.", "is_error": False}
    assert outside.json() == {
        "text": "coordinate: x is 640, and the screen has x from 0 to 639",
        "is_error": True,
    }
