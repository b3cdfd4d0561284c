"""Every name of a key is the key that X knows by it, as a program on the desktop hears it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal

import pytest
import pytest_asyncio
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


class Listening:
    """A program on a desktop that says which keys it hears."""

    def __init__(self, desktop: RunningDesktop, caller: Caller) -> None:
        machine = desktop.service.sessions[caller.chat_id].machine
        assert isinstance(machine, LocalMachine)
        self._caller = caller
        self._log = machine.place.folder / "log"
        self._begin = 0
        self.process = start(["xev", "-event", "keyboard"], machine.environment, machine.place)

    async def ready(self) -> None:
        """Wait until its window is there, and has the keyboard."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.heard():
                await self.press("F9")
        await self.press("F10")
        await until(lambda: self.heard()[-1] == "f10")
        self._begin = len(self.heard())

    async def press(self, text: str) -> None:
        reply = await self._caller.act(PressKeys(text), look=False)
        assert not reply.is_error, reply.text

    def heard(self) -> list[str]:
        """Keys since it is ready."""
        return [key.lower() for key in EVENT.findall(self._log.read_text())][self._begin :]


@pytest_asyncio.fixture(loop_scope="session")
async def listening(desktop: RunningDesktop, caller: Caller) -> Listening:
    await caller.start((640, 480))
    listening = Listening(desktop, caller)
    await listening.ready()
    return listening


async def test_a_program_that_is_always_late_hears_every_key_as_itself(
    listening: Listening,
) -> None:
    """Keys that no keyboard has are lent a place, and the next one takes it over."""
    names = [f"f{number}" for number in range(13, 25)]

    async def hold_up() -> None:
        try:
            while True:
                os.kill(listening.process.pid, signal.SIGSTOP)
                await asyncio.sleep(0.1)
                os.kill(listening.process.pid, signal.SIGCONT)
                await asyncio.sleep(0.01)
        finally:
            os.kill(listening.process.pid, signal.SIGCONT)

    holding_up = asyncio.create_task(hold_up())
    await listening.press(" ".join(names))
    holding_up.cancel()

    await until(lambda: len(listening.heard()) >= len(names))
    assert listening.heard() == names


async def test_every_name_is_the_key_that_x_knows_by_it(listening: Listening) -> None:
    shifts = [name for name in KEY_NAMES if known(name) == SHIFT]
    locks = [name for name in KEY_NAMES if known(name).endswith("_lock")]
    names = [name for name in KEY_NAMES if name not in {*shifts, *locks}]
    names += [name for name in locks for _ in range(2)]  # on and off again

    for text in (" ".join(shifts), *pieces(names)):
        await listening.press(text)

    def others() -> list[str]:  # many are on the upper half of a key
        return [key for key in listening.heard() if key != SHIFT]

    await until(lambda: len(others()) >= len(names))
    assert listening.heard()[: len(shifts)] == [SHIFT] * len(shifts)
    assert others() == [known(name) for name in names]
