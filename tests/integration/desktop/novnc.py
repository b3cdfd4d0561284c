"""noVNC as npm has it, on a web site of the test's own."""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import msgspec
import pytest
from integration.desktop.page import Sink
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

NOVNC: Final = "@novnc/novnc@1.7.0"

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
