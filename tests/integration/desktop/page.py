"""A page in a browser on a desktop that tells the test what arrived."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec
import pytest
from integration.desktop.harness import PATIENCE_S
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from steersman_desktop.look import browser_command
from steersman_desktop.machine import LocalMachine
from steersman_desktop.processes import start
from steersman_desktop.session import Session

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium"
)

PAGE = """<!doctype html><meta charset=utf-8><title>sink</title>
<style>html,body{margin:0;width:100%;height:100%;overflow:hidden;background:#0a64c8}
textarea{position:absolute;opacity:0;pointer-events:none}</style><textarea></textarea>
<script>
const r = devicePixelRatio, socket = new WebSocket('ws://' + location.host + '/sink');
const send = value => socket.send(JSON.stringify(value));
let text = '';
socket.onmessage = message => {
  send({type: message.data, value: text});
  if (message.data === 'clear') text = '';
};
const held = e => ['ctrl', 'shift', 'alt', 'meta'].filter(name => e[name + 'Key']).join('+');
const pointing = ['mousedown', 'mouseup', 'click', 'dblclick', 'auxclick', 'mousemove'];
for (const type of [...pointing, 'contextmenu'])
  addEventListener(type, e => {
    e.preventDefault();
    send({type, x: Math.floor(e.clientX * r), y: Math.floor(e.clientY * r), button: e.button,
      buttons: e.buttons, count: e.detail, held: held(e)});
  }, true);
addEventListener('wheel', e => {
  e.preventDefault();
  send({type: 'wheel', dx: e.deltaX, dy: e.deltaY, held: held(e)});
}, {capture: true, passive: false});
for (const type of ['keydown', 'keyup'])
  addEventListener(type, e => {
    const one = [...e.key].length === 1 && !e.ctrlKey && !e.altKey;
    if (!one && e.key !== 'Enter') e.preventDefault();
    if (!one && e.key !== 'Shift') send({type, key: e.key, held: held(e)});
  }, true);
// Not `key`: Chromium cuts characters beyond 16 bits there, and only there.
const area = document.querySelector('textarea');
area.addEventListener('beforeinput', e => {
  e.preventDefault();
  text += e.inputType === 'insertLineBreak' ? '\\n' : e.data;
});
area.focus();
const look = () => innerWidth === screen.width && innerHeight === screen.height
  && document.hasFocus() && socket.readyState === 1
  ? send({type: 'ready'}) : requestAnimationFrame(look);
requestAnimationFrame(look);
</script>"""


class Sink:
    """What the page has reported and nobody has looked at yet."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.connection: ServerConnection | None = None

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All events up to and with the first of that kind."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(2 * PATIENCE_S):
            while not found or found[-1]["type"] != kind:
                found.append(await self.events.get())
        return found

    async def ask(self, what: str, kind: str) -> list[dict[str, Any]]:
        """What came before the page's answer, and the answer."""
        assert self.connection is not None
        await self.connection.send(what)
        return await self.until(kind)

    async def value(self) -> str:
        """The text in the page."""
        return (await self.ask("value", "value"))[-1]["value"]


@asynccontextmanager
async def browsing(session: Session) -> AsyncGenerator[Sink]:
    """Open the page in a browser that fills the desktop."""
    sink = Sink()

    async def on_connection(connection: ServerConnection) -> None:
        sink.connection = connection
        async for message in connection:
            sink.events.put_nowait(msgspec.json.decode(message))

    def on_request(_: ServerConnection, request: Request) -> Response | None:
        if request.path == "/sink":
            return None
        found = request.path == "/"
        status = HTTPStatus.OK if found else HTTPStatus.NOT_FOUND
        headers = Headers({"Content-Type": "text/html; charset=utf-8", "Connection": "close"})
        return Response(status.value, status.phrase, headers, PAGE.encode() if found else b"")

    async with serve(
        on_connection, "127.0.0.1", 0, process_request=on_request, max_size=4 << 20
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        machine = session.machine
        command = browser_command(sandbox=True)
        assert isinstance(machine, LocalMachine)
        assert command is not None
        profile = f"--user-data-dir={machine.environment['HOME']}/profile"
        start(
            [*command, profile, "--kiosk", f"http://127.0.0.1:{port}/"],
            machine.environment,
            machine.place,
        )
        await sink.until("ready")
        yield sink
