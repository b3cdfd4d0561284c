"""The pages of the gateway in a browser: the desktop as it is, and as it was recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from integration.desktop.harness import PATIENCE_S, RunningDesktop, needs_xvnc
from integration.desktop.page import needs_chromium
from integration.desktop.person import browser, opened

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_runtime.rpc import RpcClient

pytestmark = [needs_xvnc, needs_chromium, pytest.mark.timeout(240)]
BACKGROUND = "48,72,96"
"""The colour of an empty desktop."""
PIXEL = (
    "document.querySelector('canvas').width === 640 && document.querySelector('canvas')"
    f".getContext('2d').getImageData(300, 200, 1, 1).data.slice(0, 3).join() === '{BACKGROUND}'"
)


async def test_a_person_sees_the_desktop_takes_it_over_and_plays_the_recording(
    desktop: RunningDesktop, nats: NatsServer, rpc: RpcClient, tmp_path: Path
) -> None:
    del desktop
    async with opened(nats, rpc) as site, browser(tmp_path) as person:
        await site.ann.put(site.path, json={"width": 640, "height": 480})
        film = (await site.ann.post(f"{site.path}/recordings")).json()["id"]
        await person.sign_in(site.gateway.address, "token-ann")

        await person.show(f"{site.gateway.address}{site.path}/viewer")
        await person.until(PIXEL)
        await person.press("screen", 0.25)  # has no control: nothing happens
        before = (await site.caller.act(actions.CursorPosition())).text
        await person.press("take")
        await person.until("document.body.dataset.mine === 'true'")
        await person.press("screen", 0.25)
        for kind in ("keyDown", "keyUp"):
            key = {"key": "é", "code": "Digit2", "text": "é" if kind == "keyDown" else ""}
            await person.ask("Input.dispatchKeyEvent", type=kind, **key)
        async with asyncio.timeout(PATIENCE_S):  # control is given back by another way than keys go
            while "é" not in (await site.ann.get(f"{site.path}/recordings/{film}")).text:  # noqa: ASYNC110  # nobody announces that
                await asyncio.sleep(0.1)
        await person.press("back")
        await person.until("document.body.dataset.mine === 'false'")
        after = (await site.caller.act(actions.CursorPosition())).text
        kept = await site.ann.get(f"{site.path}/recordings/{film}")
        await site.ann.post(f"{site.path}/recordings/{film}/stop")

        await person.show(f"{site.gateway.address}{site.path}/recordings/{film}/player")
        seen = await person.until(
            "document.getElementById('screen').naturalWidth === 640"
            " && [...document.querySelectorAll('#marks li')].map(mark => mark.textContent)"
        )
        await person.until("(document.getElementById('speed').value = '16')")
        await person.press("play")
        await person.until("Number(document.getElementById('seek').value) > 0.1")
        await person.until(
            "document.getElementById('play').textContent === 'Play'"
            " && Number(document.getElementById('seek').value)"
            " === Number(document.getElementById('seek').max)"
        )
        last = await person.until("document.getElementById('screen').src")
        await person.until("(document.querySelector('#marks button').click(), true)")
        first = await person.until("Number(document.getElementById('seek').value) + 1")

        site.store.add_user("token-zoe")
        pages = (f"{site.path}/viewer", f"{site.path}/recordings/{film}/player")
        async with site.gateway.client("token-zoe") as stranger:
            refused = [(await stranger.get(page)).status_code for page in pages]
        policies = [(await site.ann.get(p)).headers["content-security-policy"] for p in pages]
        nothing = await site.ann.get(f"{site.path}/recordings/20260101T000000-00000000/player")

    assert (before, after) == ("X=320,Y=240", "X=160,Y=120")
    marks = kept.json()["marks"]
    done = [mark["action"]["action"] for mark in marks if mark.get("person")]
    assert done == ["left_click", "type"]
    assert [mark["action"].get("text") for mark in marks if mark.get("person")] == [None, "é"]
    assert any("A person takes control." in text for text in seen)
    assert any("Person: type é" in text for text in seen)
    frames = [mark["number"] for mark in marks if mark["kind"] == "frame"]
    assert int(last.rpartition("/")[2]) >= max(frames)
    assert first > 1
    assert refused == [404, 404]
    assert nothing.status_code == 404
    for policy in policies:
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
