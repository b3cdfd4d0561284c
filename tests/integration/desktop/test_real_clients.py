"""Clients that others have written see and use a desktop through the gateway."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from socket import create_server
from typing import Any, Final
from urllib.parse import quote

import msgspec
import pytest
import websockets
from integration.desktop.harness import (
    LOOK,
    PATIENCE_S,
    RunningDesktop,
    needs_xvnc,
    processes_of,
    until,
)
from integration.desktop.page import PAGE_S, Sink, browsing, needs_chromium
from integration.desktop.person import browser, opened
from PIL import Image
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_runtime.rpc import RpcClient

pytestmark = [needs_xvnc, pytest.mark.timeout(240)]
NOVNC: Final = "@novnc/novnc@1.7.0"
BLUE: Final = (0x0A, 0x64, 0xC8)
"""Of the page that `browsing` shows."""


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


# -- noVNC ----------------------------------------------------------------------------------------

VIEWER = """<!doctype html><meta charset=utf-8><title>viewer</title>
<style>html,body{margin:0}#screen{width:640px;height:480px}</style><div id=screen></div>
<script type=module>
import RFB from '/package/core/rfb.js';
const socket = new WebSocket('ws://' + location.host + '/sink');
const send = value => socket.send(JSON.stringify(value));
socket.onopen = () => {
  const view = new RFB(document.getElementById('screen'),
    new URLSearchParams(location.search).get('view'), {wsProtocols: ['binary']});
  for (const name of ['connect', 'disconnect', 'securityfailure'])
    view.addEventListener(name, () => send({type: name}));
  let told = '';
  setInterval(() => {
    const canvas = document.querySelector('canvas');
    if (!canvas || !canvas.width) return;
    const at = canvas.getBoundingClientRect();
    const rgb = [...canvas.getContext('2d').getImageData(320, 240, 1, 1).data].slice(0, 3);
    const state = {type: 'pixel', rgb, size: [canvas.width, canvas.height], at: [at.x, at.y]};
    if (told !== JSON.stringify(state)) { told = JSON.stringify(state); send(state); }
  }, 50);
};
</script>"""


async def novnc() -> dict[str, bytes]:
    """The files of noVNC by path, as npm has them."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, for noVNC: apt-get install npm")
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'd=$(mktemp -d) && cd "$d" && npm pack --silent {NOVNC} >&2 && cat *.tgz'),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    data, _ = await process.communicate()
    if process.returncode != 0:
        pytest.skip(f"npm has no {NOVNC} for us")
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        return {
            f"/{member.name}": file.read()
            for member in package
            if (file := package.extractfile(member)) is not None
        }


@asynccontextmanager
async def pages() -> AsyncGenerator[tuple[str, Sink]]:
    """A web site with the viewer on it, and what that reports."""
    files = await novnc() | {"/": VIEWER.encode()}
    sink = Sink()

    async def on_connection(connection: ServerConnection) -> None:
        async for message in connection:
            sink.events.put_nowait(msgspec.json.decode(message))

    def on_request(_: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/sink":
            return None
        body = files.get(path)
        status = HTTPStatus.NOT_FOUND if body is None else HTTPStatus.OK
        kind = "text/javascript" if path.endswith(".js") else "text/html; charset=utf-8"
        headers = Headers({"Content-Type": kind, "Connection": "close"})
        return Response(status.value, status.phrase, headers, body or b"")

    async with serve(on_connection, "127.0.0.1", 0, process_request=on_request) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}", sink


@needs_chromium
async def test_novnc_in_a_browser_sees_the_screen_and_a_click_reaches_the_desktop(
    desktop: RunningDesktop, nats: NatsServer, rpc: RpcClient, shared_dir: Path, tmp_path: Path
) -> None:
    async with (
        pages() as (origin, viewer),
        opened(nats, rpc, view_origins=origin) as site,
        browser(tmp_path) as person,
    ):
        await site.ann.put(site.path, json={"width": 640, "height": 480})
        session = desktop.service.sessions[site.caller.chat_id]
        async with browsing(session, site.caller) as page:
            await site.ann.post(f"{site.path}/control", json={})
            await person.show(f"{origin}/?view={quote(await site.view(), safe='')}")
            seen = await viewer.until(
                lambda event: event["type"] == "pixel" and tuple(event["rgb"]) == BLUE
            )
            left, top = seen[-1]["at"]
            await person.click(left + 200, top + 150)
            clicked = await page.until(lambda event: event["type"] == "mouseup")
            # The browser in the desktop is killed; the desktop goes on.
            chromium = [pid for pid in processes_of(shared_dir) if _is_chromium(pid)]
            for pid in chromium:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: not any(_is_chromium(pid) for pid in processes_of(shared_dir)))
        await site.ann.delete(f"{site.path}/control")
        after = await site.caller.act(LOOK)
        pressed = await site.caller.act(actions.PressKeys("a"))

    assert seen[-1]["size"] == [640, 480]
    down = next(event for event in clicked if event["type"] == "mousedown")
    assert (down["x"], down["y"], down["button"]) == (200, 150, 0)
    assert chromium
    assert after.picture is not None
    assert not pressed.is_error


def _is_chromium(pid: int) -> bool:
    try:
        return b"chromium" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


# -- a gateway that is killed ---------------------------------------------------------------------


async def test_a_gateway_that_is_killed_leaves_no_button_down(
    desktop: RunningDesktop, nats: NatsServer, rpc: RpcClient
) -> None:
    async with opened(nats, rpc) as site, gateway_process(nats) as (process, address):
        await site.ann.put(site.path, json={"width": 640, "height": 480})
        await site.ann.post(f"{site.path}/control", json={})
        ticket = (await site.view()).partition("?")[2]
        url = f"{address}{site.path}?{ticket}"
        session = desktop.service.sessions[site.caller.chat_id]
        protocols = [websockets.Subprotocol("binary")]
        async with connect(url, subprotocols=protocols, proxy=None) as socket:
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
    """`python -m steersman_gateway`, and its address for WebSockets."""
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
        yield started, f"ws://127.0.0.1:{port}"
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
