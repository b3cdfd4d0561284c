"""Clients that others have written see and use a desktop through the gateway."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from socket import create_server
from typing import Any

import httpx2
import pytest
import websockets
from integration.desktop.harness import (
    LOOK,
    PATIENCE_S,
    RunningDesktop,
    needs_xvnc,
    until,
)
from integration.desktop.page import PAGE_S
from integration.desktop.person import opened
from PIL import Image
from websockets.asyncio.client import connect

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_runtime.rpc import RpcClient

pytestmark = [needs_xvnc, pytest.mark.timeout(240)]


# -- vncdotool ------------------------------------------------------------------------------------


@asynccontextmanager
async def as_tcp(address: Callable[[], Awaitable[str]]) -> AsyncGenerator[int]:
    """A port whose connections are live views: what websockify is for programs."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocols = [websockets.Subprotocol("binary")]
        async with connect(await address(), subprotocols=protocols, proxy=None) as socket:

            async def up() -> None:
                while data := await reader.read(65536):
                    await socket.send(data)
                await socket.close()

            sending = asyncio.create_task(up())
            async for data in socket:
                assert isinstance(data, bytes)
                writer.write(data)
                await writer.drain()
            sending.cancel()
        writer.close()

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_vncdotool_sees_types_and_points(
    desktop: RunningDesktop, nats: NatsServer, rpc: RpcClient, tmp_path: Path
) -> None:
    del desktop
    shot = tmp_path / "shot.png"
    async with opened(nats, rpc) as site, as_tcp(site.view) as port:
        await site.ann.put(site.path, json={"width": 640, "height": 480})
        await site.ann.post(f"{site.path}/control", json={})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vncdotool.command", "-s", f"127.0.0.1::{port}"),
            *("--timeout", "60", "move", "123", "45", "capture", str(shot)),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PAGE_S * 2):
            _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        reply = await site.ann.post(f"{site.path}/actions", json={"action": "cursor_position"})

    assert reply.json()["text"] == "X=123,Y=45"
    with Image.open(shot) as seen:
        assert seen.size == (640, 480)


# -- a gateway that is killed ---------------------------------------------------------------------


async def test_a_gateway_that_is_killed_leaves_no_button_down(
    desktop: RunningDesktop, nats: NatsServer, rpc: RpcClient
) -> None:
    async with opened(nats, rpc) as site, gateway_process(nats) as (process, address):
        await site.ann.put(site.path, json={"width": 640, "height": 480})
        await site.ann.post(f"{site.path}/control", json={})
        ticket = (await site.view()).partition("?")[2]
        url = f"ws://{address}{site.path}?{ticket}"
        session = desktop.service.sessions[site.caller.chat_id]
        protocols = [websockets.Subprotocol("binary")]
        async with connect(
            url, subprotocols=protocols, proxy=None, open_timeout=PATIENCE_S
        ) as socket:
            await enter(socket)
            await socket.send(b"\x05\x01\x00\x21\x00\x22")  # the left button is down at 33, 34
            await until(lambda: session.pressed_by_people)
            process.kill()
            await process.wait()
            await until(lambda: len(session.views) == 0)
        await site.ann.delete(f"{site.path}/control")
        held = session.pressed_by_people
        seen = await site.caller.act(LOOK)
        moved = await site.caller.act(actions.MouseMove((1, 2)))

    assert not held
    assert seen.picture is not None
    assert not moved.is_error


async def enter(socket: Any) -> None:
    """Shake hands as a viewer."""
    received = b""

    async def exactly(count: int) -> None:
        nonlocal received
        async with asyncio.timeout(PATIENCE_S):
            while len(received) < count:
                received += await socket.recv(decode=False)
        received = received[count:]

    await exactly(12)
    await socket.send(b"RFB 003.008\n")
    await exactly(2)
    await socket.send(b"\x01")
    await exactly(4)
    await socket.send(b"\x01")


@asynccontextmanager
async def gateway_process(
    nats: NatsServer,
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m steersman_gateway`, and its address, where it answers."""
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "steersman_gateway"),
            env={
                "PATH": os.environ["PATH"],
                "STEERSMAN_NATS_URL": nats.url(),
                "STEERSMAN_LISTEN": f"fd:{listener.fileno()}",
            },
            pass_fds=[listener.fileno()],
        )
    try:
        await answers(f"http://127.0.0.1:{port}/readyz")
        yield started, f"127.0.0.1:{port}"
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def answers(url: str) -> None:
    """Wait until this is good. A busy machine takes longer to start it than tickets are."""
    async with (
        httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client,
        asyncio.timeout(PATIENCE_S),
    ):
        # It announces that to nobody.
        while (await client.get(url)).status_code != HTTPStatus.OK:  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.05)
