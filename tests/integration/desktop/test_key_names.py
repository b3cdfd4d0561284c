"""Every name of a key is the key that X knows by it, as a program on the desktop hears it."""

from __future__ import annotations

import asyncio
import re
import shutil

import pytest
from integration.desktop.harness import PATIENCE_S, Caller, RunningDesktop, needs_xvnc, until
from integration.desktop.key_names import ALIASES, KEY_NAMES, pieces

from steersman_contracts.desktop import PressKeys
from steersman_desktop.machine import LocalMachine
from steersman_desktop.processes import start

pytestmark = [
    needs_xvnc,
    pytest.mark.skipif(shutil.which("xev") is None, reason="needs xev: apt-get install x11-utils"),
    pytest.mark.timeout(180),
]
EVENT = re.compile(r"KeyPress event.*\n.*\n.*\(keysym 0x[0-9a-f]+, (\w+)\)")
SHIFT = "shift_l"


def known(name: str) -> str:
    """As X calls a key, in small letters."""
    return ALIASES.get(name, name).lower()


async def test_every_name_is_the_key_that_x_knows_by_it(
    desktop: RunningDesktop, caller: Caller
) -> None:
    await caller.start((640, 480))
    machine = desktop.service.sessions[caller.chat_id].machine
    assert isinstance(machine, LocalMachine)
    log = machine.place.folder / "log"
    start(["xev", "-event", "keyboard"], machine.environment, machine.place)

    async def press(text: str) -> None:
        reply = await caller.act(PressKeys(text), look=False)
        assert not reply.is_error, reply.text

    def heard() -> list[str]:
        return [key.lower() for key in EVENT.findall(log.read_text())]

    async with asyncio.timeout(PATIENCE_S):
        while not heard():  # until its window is there, and has the keyboard
            await press("F9")
    await press("F10")
    await until(lambda: heard()[-1] == "f10")
    begin = len(heard())
    shifts = [name for name in KEY_NAMES if known(name) == SHIFT]
    locks = [name for name in KEY_NAMES if known(name).endswith("_lock")]
    names = [name for name in KEY_NAMES if name not in {*shifts, *locks}]
    names += [name for name in locks for _ in range(2)]  # on and off again

    for text in (" ".join(shifts), *pieces(names)):
        await press(text)

    def others() -> list[str]:  # many are on the upper half of a key
        return [key for key in heard()[begin:] if key != SHIFT]

    await until(lambda: len(others()) >= len(names))
    assert heard()[begin:][: len(shifts)] == [SHIFT] * len(shifts)
    assert others() == [known(name) for name in names]
