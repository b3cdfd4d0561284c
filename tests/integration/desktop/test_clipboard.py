"""Text goes through the clipboard both ways, and the screen takes another size."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from integration.desktop.harness import (
    ANN,
    BEN,
    PATIENCE_S,
    Caller,
    RunningDesktop,
    acting,
    needs_xvnc,
    until,
)

from steersman_contracts import desktop as actions
from steersman_contracts.errors import Forbidden, InvalidRequest, NotFound
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import desktop as rpc
from steersman_desktop.acting import CANCELLED
from steersman_desktop.control import USED_SINCE
from steersman_desktop.machine import LocalMachine
from steersman_desktop.processes import start

pytestmark = needs_xvnc
needs_xterm = pytest.mark.skipif(
    shutil.which("xterm") is None, reason="needs xterm: apt-get install xterm"
)
GREETING = "grüße ☃ 漢字"


async def copy(caller: Caller, text: str) -> None:
    await caller.rpc.call(rpc.PUT_CLIPBOARD, rpc.PutClipboard(ANN, caller.chat_id, text))


def written(path: Path) -> str:
    """What stands in a file; nothing if there is none."""
    return path.read_text().strip() if path.exists() else ""


@needs_xterm
async def test_text_of_any_script_goes_in_and_out(
    desktop: RunningDesktop, caller: Caller, tmp_path: Path
) -> None:
    await caller.start((640, 480))
    with pytest.raises(Forbidden):
        await copy(caller, "x")
    machine = desktop.service.sessions[caller.chat_id].machine
    assert isinstance(machine, LocalMachine)
    # What is pasted into a terminal and entered, its shell writes into a file.
    start(
        ["xterm", "-u8", "-fullscreen", "-e", "touch ready; read -r line; echo $line >got; cat"],
        machine.environment | {"SHELL": "/bin/sh"},
        machine.place,
    )
    here = machine.place.folder
    await until((here / "ready").exists)
    await caller.take(ANN)
    await caller.act(actions.Click(coordinate=(300, 200)), actor=ANN)
    await copy(caller, GREETING)
    # A terminal whose window is not up yet hears nothing.
    async with asyncio.timeout(PATIENCE_S):
        while not written(here / "got"):
            await caller.act(actions.PressKeys("shift+Insert Return"), actor=ANN)
    assert written(here / "got") == GREETING

    # What is selected there comes out; it is on the line that the shell has shown.
    await caller.act(actions.TypeText("out of the desktop\n"), actor=ANN)
    found = ""
    async with asyncio.timeout(PATIENCE_S):
        while "out of the desktop" not in found:
            for y in range(8, 120, 13):
                await caller.act(actions.Click("left", 3, (20, y)), actor=ANN)
                reply = await caller.rpc.call(
                    rpc.GET_CLIPBOARD, rpc.GetClipboard(BEN, caller.chat_id)
                )
                found += reply.text


async def test_too_much_is_refused(caller: Caller) -> None:
    await caller.start((640, 480))
    await caller.take(ANN)

    with pytest.raises(InvalidRequest, match="text has 262145 bytes; the clipboard takes 262144"):
        await copy(caller, "x" * ((256 << 10) + 1))


async def test_who_has_control_gives_the_desktop_another_size_and_models_see_it(
    desktop: RunningDesktop, caller: Caller
) -> None:
    async def resize(width: int, height: int, actor: Actor = ANN) -> rpc.Desktop:
        request = rpc.ResizeDesktop(actor, caller.chat_id, width, height)
        async with asyncio.timeout(PATIENCE_S):
            return await caller.rpc.call(rpc.RESIZE_DESKTOP, request)

    with pytest.raises(NotFound):
        await resize(800, 600)
    await caller.start((640, 480))
    await caller.act(actions.MouseMove((5, 5)))
    with pytest.raises(InvalidRequest, match="width is 801; it must be an even number"):
        await resize(801, 600)
    # Not under the hands of the agent, whatever it is doing, and not by who only watches.
    holding = asyncio.create_task(caller.act(actions.HoldKeys("shift", 300.0)))
    await acting(desktop, caller)
    with pytest.raises(Forbidden, match="take control of the desktop first"):
        await resize(1920, 1080)
    await caller.take(ANN)
    assert (await holding).is_error
    with pytest.raises(Forbidden, match="take control of the desktop first"):
        await resize(1920, 1080, BEN)
    # An agent that waits meanwhile, which it may, is in nobody's way.
    waiting = asyncio.create_task(caller.act(actions.Wait(300.0), key="wait"))
    await acting(desktop, caller)

    larger = await resize(1920, 1080)
    async with asyncio.timeout(PATIENCE_S):
        by_person = await caller.act(actions.MouseMove((1, 2)), actor=ANN)
    await caller.cancel("wait")
    ended = await waiting
    await caller.give_back(ANN)
    seen = await caller.act(actions.MouseMove((5, 5)))
    moved = await caller.act(actions.MouseMove((larger.declared_width - 1, 0)))

    assert (larger.width, larger.height, larger.generation) == (1920, 1080, 1)
    assert (larger.declared_width, larger.declared_height) == (1424, 801)
    assert not by_person.is_error
    assert (ended.is_error, ended.text) == (True, CANCELLED)
    assert (seen.is_error, seen.text) == (True, USED_SINCE)
    assert seen.picture is not None
    assert (seen.picture.width, seen.picture.height) == (1424, 801)
    assert not moved.is_error
