"""A person with a browser, at a gateway, with a chat that has a desktop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
from integration.desktop.harness import Caller
from integration.desktop.page import PAGE_S
from integration.gateway.driver import RunningGateway, running_gateway
from integration.gateway.stand_in import StandInStore, stand_in_store
from websockets.asyncio.client import connect

from steersman.embedded.nats import NatsServer
from steersman_desktop.look import browser_command
from steersman_gateway.auth import COOKIE
from steersman_runtime.rpc import RpcClient


class Site:
    """A chat with a desktop, and its owner at a gateway."""

    def __init__(
        self,
        gateway: RunningGateway,
        store: StandInStore,
        ann: httpx2.AsyncClient,
        caller: Caller,
    ) -> None:
        self.gateway = gateway
        self.store = store
        self.ann = ann
        self.caller = caller
        self.path = f"/api/v1/chats/{caller.chat_id}/desktop"

    async def view(self) -> str:
        """The address of a live view with control, good once."""
        reply = await self.ann.post(f"{self.path}/ticket", json={"mode": "control"})
        assert reply.status_code == 200, reply.text
        base = self.gateway.address.replace("http", "ws")
        return f"{base}{self.path}?ticket={quote(reply.json()['ticket'])}"


@asynccontextmanager
async def opened(nats: NatsServer, rpc: RpcClient, **settings: Any) -> AsyncGenerator[Site]:
    async with (
        stand_in_store(nats.url(), ("store", "tools")) as store,
        running_gateway(nats.url(), **settings) as gateway,
        gateway.client("token-ann") as ann,
    ):
        caller = Caller(rpc, store.add_chat(store.add_user("token-ann")))
        try:
            yield Site(gateway, store, ann, caller)
        finally:
            await caller.stop()


class Browser:
    """A headless Chromium, whose input is that of a person: trusted events."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._id = 0
        self._page = ""

    async def ask(self, method: str, **given: Any) -> dict[str, Any]:
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": given}
        if self._page:
            message["sessionId"] = self._page
        await self._socket.send(msgspec.json.encode(message).decode())
        async with asyncio.timeout(PAGE_S):
            while True:
                reply = msgspec.json.decode(await self._socket.recv(), type=dict[str, Any])
                if reply.get("id") == self._id:
                    assert "error" not in reply, reply
                    return reply["result"]

    async def show(self, url: str) -> None:
        """Open a page, in place of the one before."""
        if not self._page:
            target = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
            attached = await self.ask("Target.attachToTarget", targetId=target, flatten=True)
            self._page = attached["sessionId"]
        # Answers when the page is the new one.
        assert "errorText" not in await self.ask("Page.navigate", url=url)

    async def sign_in(self, origin: str, token: str) -> None:
        """Have the cookie that a sign-in link leaves."""
        cookie = {"name": COOKIE, "value": token, "url": origin, "httpOnly": True}
        await self.ask("Storage.setCookies", cookies=[cookie | {"sameSite": "Strict"}])

    async def until(self, expression: str) -> Any:
        """Wait until JavaScript in the page gives something; says what that is."""
        waiting = (
            "new Promise(done => { const look = () => { const found = (() => "
            f"document.readyState === 'complete' && ({expression}))();"
            " found ? done(found) : setTimeout(look, 20); }; look(); })"
        )
        given = {"expression": waiting, "awaitPromise": True, "returnByValue": True}
        try:
            reply = await self.ask("Runtime.evaluate", **given)
        except TimeoutError:
            raise AssertionError(f"the page never had {expression}: {await self._text()}") from None
        assert "exceptionDetails" not in reply, reply
        return reply["result"]["value"]

    async def _text(self) -> str:
        shown = "document.body.innerText.slice(0, 1000)"
        reply = await self.ask("Runtime.evaluate", expression=shown)
        return str(reply["result"].get("value"))

    async def press(self, element: str, at: float = 0.5) -> None:
        """Click on what has this id, once it can be seen; `at` is how far from its upper left."""
        box = await self.until(
            "(element => { element.scrollIntoView({block: 'nearest'});"
            " const box = element.getBoundingClientRect();"
            f" const at = side => box[side[0]] + box[side[1]] * {at};"
            " return box.width && [at(['x', 'width']), at(['y', 'height'])]; })"
            f"(document.getElementById('{element}'))"
        )
        await self.click(*box)

    async def click(self, x: float, y: float) -> None:
        at: dict[str, Any] = {"x": x, "y": y}
        await self.ask("Input.dispatchMouseEvent", type="mouseMoved", **at)
        for kind in ("mousePressed", "mouseReleased"):
            await self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)


@asynccontextmanager
async def browser(folder: Path) -> AsyncGenerator[Browser]:
    """Chromium, with its profile in this folder."""
    command = browser_command(sandbox=False)
    assert command is not None
    process = await asyncio.create_subprocess_exec(
        *(*command, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}"),
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PAGE_S):
            async for line in process.stderr:
                _, found, address = line.decode().partition("DevTools listening on ")
                if found:
                    break
            else:
                raise AssertionError("the browser did not start")
        draining = asyncio.create_task(process.stderr.read())  # or it would block one day
        async with connect(address.strip(), proxy=None, max_size=None) as socket:
            yield Browser(socket)
        draining.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
