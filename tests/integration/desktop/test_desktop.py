"""Without Xvnc the service says what to install; with it a desktop lives and ends as it should."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from integration.desktop.harness import (
    ANN,
    LOOK,
    Caller,
    RunningDesktop,
    acting,
    needs_xvnc,
    processes_of,
    running_desktop,
    until_gone,
)

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_contracts.errors import DesktopUnavailable, InvalidRequest, TooManyRequests
from steersman_desktop.app import create_app
from steersman_desktop.programs import missing_programs
from steersman_desktop.settings import Settings
from steersman_runtime.rpc import RpcClient
from steersman_runtime.service import Runtime
from steersman_runtime.settings import Secret


async def test_what_is_missing_is_named_with_its_package(
    nats: NatsServer, rpc: RpcClient, run_dir: Path
) -> None:
    settings = Settings(nats_url=Secret(nats.url()), run_dir=str(run_dir))
    runtime = Runtime("desktop", settings)
    caller = Caller(rpc)
    async with create_app(runtime, settings, missing=lambda: ("Xvnc",)).lifespan():
        assert runtime.health.problems() == {}
        answers = await asyncio.gather(
            caller.get(), caller.start(), caller.act(LOOK), return_exceptions=True
        )

    for answer in answers:
        assert isinstance(answer, DesktopUnavailable)
        assert answer.details == {"missing": ["Xvnc"]}
        assert "apt-get install tigervnc-standalone-server" in str(answer)


def test_programs_are_looked_for_on_the_path() -> None:
    assert missing_programs(lambda _: None) == ("Xvnc", "setpriv")
    assert missing_programs(lambda name: f"/usr/bin/{name}") == ()


@needs_xvnc
async def test_a_desktop_starts_once_and_leaves_nothing(caller: Caller, run_dir: Path) -> None:
    assert (await caller.get()).state == "absent"

    first, second = await asyncio.gather(caller.start(), caller.start())
    again = await caller.start()

    assert first == second == again
    assert (first.state, first.width, first.height, first.generation) == ("ready", 1280, 800, 1)
    assert len(processes_of(run_dir)) == 2  # Xvnc and its window manager

    assert (await caller.stop()).state == "gone"
    assert (await caller.stop()).state == "absent"
    await until_gone(run_dir)
    assert [path.name for path in run_dir.iterdir() if path.is_dir()] == []


@needs_xvnc
async def test_nobody_else_on_the_host_can_open_it(
    caller: Caller, run_dir: Path, as_root: None
) -> None:
    await caller.start()

    place = run_dir / "0"
    mode = (place / "rfb").stat()
    assert stat.S_IMODE(mode.st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert mode.st_uid not in {0, 65534}
    xvnc = next(pid for pid in processes_of(run_dir) if "Xvnc" in _command(pid))
    assert os.stat(f"/proc/{xvnc}").st_uid == mode.st_uid  # noqa: PTH116  # of /proc
    sockets = {os.readlink(f"/proc/{xvnc}/fd/{n}") for n in os.listdir(f"/proc/{xvnc}/fd")}  # noqa: PTH115, PTH208  # of /proc
    inodes = {name[8:-1] for name in sockets if name.startswith("socket:")}
    tcp = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    assert not inodes & {line.split()[9] for line in tcp.splitlines() if "inode" not in line}


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@needs_xvnc
async def test_a_dead_screen_is_replaced_and_the_next_action_says_so(
    desktop: RunningDesktop, caller: Caller, run_dir: Path
) -> None:
    await caller.start()
    await caller.act(LOOK)
    holding = asyncio.create_task(caller.act(actions.HoldKeys("shift", 60.0)))
    await acting(desktop, caller)

    for pid in processes_of(run_dir):
        if "Xvnc" in _command(pid):
            os.kill(pid, 9)

    async with asyncio.timeout(30):
        ended = await holding
        while (now := await caller.get()).state != "ready":
            await asyncio.sleep(0.05)
    refused = await caller.act(actions.PressKeys("a"))
    seen = await caller.act(LOOK)
    pressed = await caller.act(actions.PressKeys("a"))

    assert (ended.is_error, now.generation) == (True, 2)
    assert refused.is_error
    assert refused.text == "The desktop restarted; its windows are gone. Take a screenshot."
    assert seen.picture is not None
    assert not pressed.is_error


@needs_xvnc
async def test_limits_are_named(
    nats: NatsServer, rpc: RpcClient, run_dir: Path, uid_base: int
) -> None:
    async with running_desktop(nats.url(), run_dir=str(run_dir), uid_base=uid_base, max_desktops=1):
        with pytest.raises(InvalidRequest, match="width is 5000; it must be an even number from"):
            await Caller(rpc).start((5000, 800))
        await Caller(rpc).start((640, 480))
        with pytest.raises(TooManyRequests) as refused:
            await Caller(rpc).start()

    assert refused.value.details == {"limit": 1}


@needs_xvnc
async def test_two_hosts_share_the_chats(
    desktop: RunningDesktop, nats: NatsServer, rpc: RpcClient, run_dir: Path, uid_base: int
) -> None:
    callers = [Caller(rpc) for _ in range(3)]
    async with running_desktop(nats.url(), run_dir=str(run_dir), uid_base=uid_base) as other:
        await asyncio.gather(*(caller.start((640, 480)) for caller in callers))
        # Whoever takes a request, the one that has the desktop answers it.
        for caller in callers:
            for _ in range(6):
                assert (await caller.get()).generation == 1
                assert (await caller.act(actions.CursorPosition())).text == "X=320,Y=240"
        spread = len(other.service.sessions) + len(desktop.service.sessions)

    assert spread == 3


@needs_xvnc
async def test_an_idle_desktop_stops(
    nats: NatsServer, rpc: RpcClient, run_dir: Path, uid_base: int
) -> None:
    async with running_desktop(
        nats.url(), run_dir=str(run_dir), uid_base=uid_base, idle_stop_s=0.5
    ):
        caller = Caller(rpc)
        await caller.start((640, 480), ANN)
        await until_gone(run_dir)
        assert (await caller.act(LOOK)).picture is not None  # it starts again when it is used
