"""A page in a browser on a desktop that tells the test what arrived."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec
import pytest
from integration.desktop.harness import Caller
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from steersman_contracts.desktop import Click
from steersman_desktop.look import browser_command
from steersman_desktop.machine import LocalMachine
from steersman_desktop.processes import start
from steersman_desktop.session import Session

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium"
)

PAGE_S: Final = 45.0
"""For a browser on a loaded machine; nothing takes that long that works."""
Event: TypeAlias = dict[str, Any]
Events: TypeAlias = list[Event]

PAGE = """<!doctype html><meta charset=utf-8><title>sink</title>
<style>html,body{margin:0;width:100%;height:100%;overflow:hidden;background:#0a64c8}
textarea{position:absolute;opacity:0;pointer-events:none}
i{cursor:crosshair;height:100%;left:50%;position:absolute;width:50%}</style>
<textarea></textarea><i></i>
<script>
const r = devicePixelRatio, socket = new WebSocket('ws://' + location.host + '/sink');
const send = value => socket.send(JSON.stringify(value));
let text = '', wanted = 0;
const reach = () => {
  if (wanted && text.length >= wanted) send({type: 'reached', length: wanted}), wanted = 0;
};
socket.onmessage = message => {
  const [what, number] = message.data.split(' ');
  if (what === 'reach') { wanted = +number; reach(); return; }
  send({type: what, value: text});
  if (what === 'clear') text = '';
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
    const clips = e.ctrlKey && !e.altKey && 'cv'.includes(e.key)
      || e.shiftKey && e.key === 'Insert';
    if (!one && !clips && e.key !== 'Enter') e.preventDefault();
    if (!one && e.key !== 'Shift') send({type, key: e.key, held: held(e)});
  }, true);
// Not `key`: Chromium cuts characters beyond 16 bits there, and only there.
const area = document.querySelector('textarea');
area.addEventListener('beforeinput', e => {
  e.preventDefault();
  text += e.inputType === 'insertLineBreak' ? '\\n' : e.data;
  reach();
});
addEventListener('copy', e => {
  e.preventDefault();
  e.clipboardData.setData('text/plain', text);
});
area.focus();
// Each change is told, so that a test that waits in vain can say for what.
let told = '';
const look = () => {
  const state = {size: [innerWidth, innerHeight], screen: [screen.width, screen.height],
    focus: document.hasFocus()};
  const full = innerWidth === screen.width && innerHeight === screen.height;
  if (socket.readyState === 1 && told !== JSON.stringify(state)) {
    told = JSON.stringify(state);
    send({type: 'state', ready: full && state.focus, ...state});
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
</script>"""


class Sink:
    """What the page has reported and nobody has looked at yet."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.connection: ServerConnection | None = None

    async def until(self, true: Callable[[Event], bool], wait_s: float = PAGE_S) -> Events:
        """All events up to and with the first that is meant.

        Raises:
            AssertionError: It has not come; says what has.
        """
        found: Events = []
        try:
            async with asyncio.timeout(wait_s):
                while not found or not true(found[-1]):
                    found.append(await self.events.get())
        except TimeoutError:
            raise AssertionError(f"the page has only reported {found[-20:]}") from None
        return found

    async def ask(self, what: str, kind: str) -> Events:
        """What came before the page's answer, and the answer."""
        await self.say(what)
        return await self.until(lambda event: event["type"] == kind)

    async def say(self, what: str) -> None:
        """Say something to the page."""
        assert self.connection is not None
        await self.connection.send(what)

    async def seen(self, kinds: Collection[str], enough: Callable[[Events], bool]) -> Events:
        """What is reported of these kinds until that is enough, or nothing comes any more.

        The page may hear of a key long after the action that pressed it has been answered.
        """
        found: Events = []
        with suppress(TimeoutError):
            async with asyncio.timeout(PAGE_S):
                while not enough(found):
                    event = await self.events.get()
                    if event["type"] in kinds:
                        found.append(event)
        # One more than enough is wrong, too.
        late = await self.ask("value", "value")
        return found + [event for event in late if event["type"] in kinds]

    async def value(self, length: int) -> str:
        """The text in the page, once it has so many UTF-16 units, or when it grows no more."""
        await self.say(f"reach {length}")
        with suppress(AssertionError):  # what is missing, the caller sees
            await self.until(lambda event: event["type"] == "reached")
        return (await self.ask("value", "value"))[-1]["value"]


@asynccontextmanager
async def browsing(session: Session, caller: Caller) -> AsyncGenerator[Sink]:
    """Open the page in a browser that fills the desktop, and wait until it takes input."""
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
        await sink.until(lambda event: event.get("ready", False))
        await _until_it_listens(sink, caller)
        yield sink


async def _until_it_listens(sink: Sink, caller: Caller) -> None:
    """Wait until input arrives.

    Chromium drops all input of a page that it has not painted yet, and tells nobody.
    """
    async with asyncio.timeout(PAGE_S):
        while True:
            await caller.act(Click("left", 1, (50, 50)), look=False)
            with suppress(AssertionError):
                await sink.until(lambda event: event["type"] == "mouseup", wait_s=1.0)
                break
    # The last click of this kind, and so the last that is reported.
    await caller.act(Click("middle", 1, (60, 60)), look=False)
    await sink.until(lambda event: (event["type"], event.get("button")) == ("auxclick", 1))
