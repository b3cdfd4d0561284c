"""Browsers at a desktop, with a browser on it: noVNC, and the pages of the gateway."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from integration.desktop.harness import (
    LOOK,
    RunningDesktop,
    needs_xvnc,
    processes_of,
    until,
)
from integration.desktop.novnc import pages
from integration.desktop.page import Sink, browsing, needs_chromium
from integration.desktop.person import Browser, Site, browser, opened

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_runtime.rpc import RpcClient

pytestmark = [needs_xvnc, needs_chromium, pytest.mark.timeout(240)]
BLUE = (0x0A, 0x64, 0xC8)
"""Of the page on the desktop."""
SIZE = (640, 480)
SEES = (
    "document.querySelector('canvas').width === 640 && document.querySelector('canvas')"
    ".getContext('2d').getImageData(300, 200, 1, 1).data.slice(0, 3).join() === '10,100,200'"
)
SHAPE = (
    "!document.getElementById('pointer').hidden && document.getElementById('pointer').toDataURL()"
)
CLIPPED = "grüße ☃ 漢字"
# More letters than a keyboard of Xvnc has room for, as somebody writes who has them on theirs.
LETTERS = "".join(map(chr, (*range(0x430, 0x450), *range(0x410, 0x430), *range(0x3B1, 0x3CA))))


@dataclass
class Scene:
    """A desktop with a browser on it, and a person with another one."""

    site: Site
    sink: Sink
    person: Browser
    viewer: Sink
    """What noVNC reports."""
    origin: str
    """Of the web site that noVNC is on."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(
    desktop: RunningDesktop,
    nats: NatsServer,
    rpc: RpcClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[Scene]:
    """One for all: each browser costs more to start than what is proved with it."""
    async with (
        pages() as (origin, viewer),
        opened(nats, rpc, view_origins=origin) as site,
        browser(tmp_path_factory.mktemp("person")) as person,
    ):
        await site.ann.put(site.path, json=dict(zip(("width", "height"), SIZE, strict=True)))
        session = desktop.service.sessions[site.caller.chat_id]
        async with browsing(session, site.caller) as sink:
            yield Scene(site, sink, person, viewer, origin)


async def test_novnc_sees_the_screen_and_a_click_reaches_the_desktop(scene: Scene) -> None:
    site = scene.site
    await site.ann.post(f"{site.path}/control", json={})
    await scene.person.show(f"{scene.origin}/?view={quote(await site.view(), safe='')}")
    seen = await scene.viewer.until(
        lambda event: event["type"] == "pixel" and tuple(event["rgb"]) == BLUE
    )
    left, top = seen[-1]["at"]
    await scene.person.click(left + 200, top + 150)
    clicked = await scene.sink.until(lambda event: event["type"] == "mouseup")
    await site.ann.delete(f"{site.path}/control")

    assert tuple(seen[-1]["size"]) == SIZE
    down = next(event for event in clicked if event["type"] == "mousedown")
    assert (down["x"], down["y"], down["button"]) == (200, 150, 0)


async def test_a_person_sees_the_desktop_and_uses_it_as_one_of_their_own(scene: Scene) -> None:
    site, person, sink = scene.site, scene.person, scene.sink
    film = (await site.ann.post(f"{site.path}/recordings")).json()["id"]
    await person.sign_in(site.gateway.address, "token-ann")
    await person.show(f"{site.gateway.address}{site.path}/viewer")
    await person.until(SEES)
    await person.press("screen", 0.75)  # has no control: nothing happens
    before = (await site.caller.act(actions.CursorPosition())).text
    await person.press("take")
    await person.until("document.body.dataset.mine === 'true'")

    await person.press("screen", 0.25)
    clicked = await sink.until(lambda event: event["type"] == "mouseup")
    arrow = await person.until(SHAPE)
    await person.press("screen", 0.75)
    cross = await person.until(f"({SHAPE}) !== '{arrow}' && ({SHAPE})")
    await _keyboard(scene)
    await _clipboard(scene)
    await _lifted(scene)
    await person.press("take")
    await person.until("document.body.dataset.mine === 'true'")
    await person.until(
        "(size => { size.value = '1280x800'; size.dispatchEvent(new Event('change'));"
        " return true; })(document.getElementById('size'))"
    )
    await person.until("document.getElementById('screen').width === 1280")
    await sink.until(lambda event: tuple(event.get("screen", ())) == (1280, 800))
    await person.press("back")
    await person.until("document.body.dataset.mine === 'false'")
    marks = (await site.ann.get(f"{site.path}/recordings/{film}")).json()["marks"]
    await site.ann.post(f"{site.path}/recordings/{film}/stop")

    assert before == "X=200,Y=150"
    down = [event for event in clicked if event["type"] == "mousedown"]
    assert [(event["x"], event["y"], event["button"]) for event in down] == [(160, 120, 0)]
    assert cross.startswith("data:image/png")
    done = [mark["action"] for mark in marks if mark.get("person")]
    assert [action["action"] for action in done[:3]] == ["left_click", "left_click", "type"]
    assert done[2]["text"] == "éAb" + LETTERS
    await _player(scene, film)


async def _keyboard(scene: Scene) -> None:
    """What is on the keys of the person arrives, whatever keyboard that is."""
    person, sink = scene.person, scene.sink
    for key, code, more in (
        ("é", "Digit2", {}),  # of a French keyboard
        ("Dead", "BracketLeft", {}),  # writes nothing by itself
        ("A", "KeyA", {}),  # by Caps Lock, which leaves none on here
        ("b", "KeyB", {}),
    ):
        text = {"text": key} if len(key) == 1 else {}
        await person.ask("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, **text)
        await person.ask("Input.dispatchKeyEvent", type="keyUp", key=key, code=code, **more)
    # Composed, by dead keys or otherwise: the browser gives it to the field in one piece.
    await person.ask("Input.insertText", text=LETTERS)
    assert await sink.value(len("éAb" + LETTERS)) == "éAb" + LETTERS
    await sink.ask("clear", "clear")


async def _chord(scene: Scene, key: str, *commands: str) -> None:
    """Control and a key, with what the browser of the person makes of it by itself."""
    for kind in ("rawKeyDown", "keyUp"):
        control = {"key": "Control", "code": "ControlLeft"}
        letter = {
            "key": key,
            "code": f"Key{key.upper()}",
            "windowsVirtualKeyCode": ord(key.upper()),
        }
        down = {"modifiers": 2, "commands": list(commands)} if kind == "rawKeyDown" else {}
        for given in (control, letter | down)[:: 1 if down else -1]:
            await scene.person.ask("Input.dispatchKeyEvent", type=kind, **{"modifiers": 2} | given)


async def _clipboard(scene: Scene) -> None:
    """Text goes to the desktop and comes from it, of any script."""
    person, sink = scene.person, scene.sink
    await person.press("screen", 0.25)
    await person.until("(document.getElementById('clipboard').open = true)")
    await person.until("(document.getElementById('clip').focus(), true)")
    await person.ask("Input.insertText", text=CLIPPED)
    await _chord(scene, "a", "selectAll")
    await _chord(scene, "c", "copy")
    await person.press("screen", 0.25)
    await _chord(scene, "v", "paste")
    assert await sink.value(len(CLIPPED)) == CLIPPED

    given = f"{CLIPPED} by the button"
    await person.until(f"(document.getElementById('clip').value = '{given}')")
    await person.press("give")
    await person.press("screen", 0.25)
    shift = {"key": "Shift", "code": "ShiftLeft", "modifiers": 8}
    insert = {"key": "Insert", "code": "Insert", "modifiers": 8}
    await person.ask("Input.dispatchKeyEvent", type="rawKeyDown", **shift)
    await person.ask("Input.dispatchKeyEvent", type="rawKeyDown", **insert)
    await person.ask("Input.dispatchKeyEvent", type="keyUp", **insert)
    await person.ask("Input.dispatchKeyEvent", type="keyUp", **shift)
    assert await sink.value(len(CLIPPED + given)) == CLIPPED + given

    await _chord(scene, "c")  # the page on the desktop copies all that it has
    await person.until(f"document.getElementById('clip').value === '{CLIPPED}{given}'")
    await sink.ask("clear", "clear")


async def _lifted(scene: Scene) -> None:
    """Whoever loses control lets go of keys and buttons, person and agent alike."""
    site, person, sink = scene.site, scene.person, scene.sink
    wanted = {"keyup", "mouseup"}

    async def lifted() -> set[tuple[str, str]]:
        found: list[dict[str, Any]] = []
        while not wanted <= {event["type"] for event in found}:
            found += await sink.until(lambda event: event["type"] in wanted)
        return {
            (event["type"], str(event.get("key", event.get("button"))))
            for event in found
            if event["type"] in {*wanted, "keydown", "mousedown"}
        }

    await person.ask("Input.dispatchKeyEvent", type="rawKeyDown", key="F7", code="F7")
    at = await person.until(
        "(box => [box.x + 9, box.y + 9])(document.getElementById('screen').getBoundingClientRect())"
    )
    given: dict[str, Any] = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
    await person.ask("Input.dispatchMouseEvent", type="mousePressed", **given)
    held = await sink.until(lambda event: event["type"] == "mousedown")
    await site.ann.delete(f"{site.path}/control")
    assert {event["key"] for event in held if event["type"] == "keydown"} == {"F7"}
    assert await lifted() == {("keyup", "F7"), ("mouseup", "0")}
    await person.until("document.body.dataset.mine === 'false'")
    await person.ask("Input.dispatchMouseEvent", type="mouseReleased", **given)
    await person.ask("Input.dispatchKeyEvent", type="keyUp", key="F7", code="F7")

    assert (await site.caller.act(LOOK)).picture is not None
    await site.caller.act(actions.MouseDown(), look=False)
    holding = asyncio.create_task(site.caller.act(actions.HoldKeys("F8", 60.0)))
    await sink.until(lambda event: (event["type"], event.get("key")) == ("keydown", "F8"))
    await site.ann.post(f"{site.path}/control", json={})
    assert (await holding).is_error
    assert await lifted() == {("keyup", "F8"), ("mouseup", "0")}
    await site.ann.delete(f"{site.path}/control")


async def _player(scene: Scene, film: str) -> None:
    """What was recorded is played, and none of the pages is for strangers."""
    site, person = scene.site, scene.person
    await person.show(f"{site.gateway.address}{site.path}/recordings/{film}/player")
    seen = await person.until(
        "document.getElementById('screen').naturalWidth === 640"
        " && [...document.querySelectorAll('#marks li')].map(mark => mark.textContent)"
    )
    await person.until("(document.getElementById('speed').value = '16')")
    await person.press("play")
    await person.until("Number(document.getElementById('seek').value) > 0.1")
    await person.until(  # a few seconds before the end
        "(seek => { seek.value = Number(seek.max) - 3; seek.dispatchEvent(new Event('input'));"
        " return true; })(document.getElementById('seek'))"
    )
    await person.until(
        "document.getElementById('play').textContent === 'Play'"
        " && Number(document.getElementById('seek').value)"
        " === Number(document.getElementById('seek').max)"
    )
    last = await person.until("document.getElementById('screen').src")
    await person.until("(document.querySelector('#marks button').click(), true)")
    first = await person.until("Number(document.getElementById('seek').value) + 1")
    found = await site.ann.get(f"{site.path}/recordings/{film}")
    frames = [mark["number"] for mark in found.json()["marks"] if mark["kind"] == "frame"]

    site.store.add_user("token-zoe")
    addresses = (f"{site.path}/viewer", f"{site.path}/recordings/{film}/player")
    async with site.gateway.client("token-zoe") as stranger:
        refused = [(await stranger.get(page)).status_code for page in addresses]
    policies = [(await site.ann.get(p)).headers["content-security-policy"] for p in addresses]
    nothing = await site.ann.get(f"{site.path}/recordings/20260101T000000-00000000/player")

    assert any("A person takes control." in text for text in seen)
    assert any("Person: type éAb" in text for text in seen)
    assert int(last.rpartition("/")[2]) >= max(frames)
    assert first > 1
    assert refused == [404, 404]
    assert nothing.status_code == 404
    for policy in policies:
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy


async def test_a_browser_that_is_killed_leaves_a_desktop_that_can_be_used(
    scene: Scene, shared_dir: Path
) -> None:
    caller = scene.site.caller
    chromium = [pid for pid in processes_of(shared_dir) if _is_chromium(pid)]
    for pid in chromium:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(_is_chromium(pid) for pid in processes_of(shared_dir)))
    after = await caller.act(LOOK)
    pressed = await caller.act(actions.PressKeys("a"))

    assert chromium
    assert after.picture is not None
    assert not pressed.is_error


def _is_chromium(pid: int) -> bool:
    try:
        return b"chromium" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
