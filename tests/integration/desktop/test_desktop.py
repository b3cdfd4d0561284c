"""Without Xvnc the service says what to install; with it a desktop lives and ends as it should."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from integration.desktop.harness import (
    ANN,
    BEN,
    LOOK,
    PATIENCE_S,
    Caller,
    RunningDesktop,
    acting,
    alone,
    calling,
    needs_xvnc,
    processes_of,
    until,
    until_gone,
)
from PIL import Image
from prometheus_client import REGISTRY

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_contracts.errors import DesktopUnavailable, InvalidRequest, TooManyRequests
from steersman_contracts.ids import ChatId
from steersman_desktop.app import create_app
from steersman_desktop.machine import LocalMachine
from steersman_desktop.programs import missing_programs
from steersman_desktop.session import Session
from steersman_desktop.settings import Settings
from steersman_runtime.service import Runtime
from steersman_runtime.settings import Secret


async def test_what_is_missing_is_named_with_its_package(
    own_nats: NatsServer, run_dir: Path
) -> None:
    settings = Settings(nats_url=Secret(own_nats.url()), run_dir=str(run_dir))
    runtime = Runtime("desktop", settings)
    app = create_app(runtime, settings, missing=lambda: ("Xvnc",))
    async with app.lifespan(), calling(own_nats.url()) as rpc:
        caller = Caller(rpc)
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
async def test_a_desktop_starts_once_and_leaves_nothing(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    async with alone(own_nats.url(), run_dir, own_uid_base) as (_, rpc):
        caller = Caller(rpc)
        assert (await caller.get()).state == "absent"

        first, second = await asyncio.gather(caller.start(), caller.start())
        again = await caller.start()

        assert first == second == again
        assert (first.state, first.width, first.height, first.generation) == ("ready", 1280, 800, 1)
        # Xvnc and its window manager, and for a moment what these start.
        await until(lambda: len(processes_of(run_dir)) == 2)
        # What is seen first is whole, and stays: the taskbar is there and nothing pops up on it.
        seen = (await caller.act(LOOK)).picture
        assert seen is not None
        taskbar = Image.open(io.BytesIO(seen.data)).crop((400, 780, 900, 798))
        colours = taskbar.getcolors() or []
        assert len(colours) == 1
        assert colours[0][1] != (0x30, 0x48, 0x60)

        assert (await caller.stop()).state == "gone"
        assert (await caller.stop()).state == "absent"
        await until_gone(run_dir)
        assert list(run_dir.glob("[0-9]/")) == []  # noqa: ASYNC240  # one small folder


@needs_xvnc
async def test_nobody_else_on_the_host_can_open_it(
    desktop: RunningDesktop, caller: Caller, as_root: None
) -> None:
    await caller.start()
    machine = desktop.service.sessions[caller.chat_id].machine
    assert isinstance(machine, LocalMachine)

    xvnc = machine.processes[0].pid
    assert "Xvnc" in _command(xvnc)
    folder, unix = _modes(xvnc)

    assert folder == (unix[0], 0o700)
    assert unix[1] == 0o600
    assert unix[0] not in {0, 65534}
    assert not _sockets(xvnc) & _tcp_sockets()


def _modes(pid: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Owner and mode of the folder that a process is in, and of its RFB socket."""
    place = Path(f"/proc/{pid}/cwd").readlink()
    states = place.stat(), (place / "rfb").stat()
    assert Path(f"/proc/{pid}").stat().st_uid == states[0].st_uid
    folder, unix = ((state.st_uid, stat.S_IMODE(state.st_mode)) for state in states)
    return folder, unix


def _sockets(pid: int) -> set[str]:
    names = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return {name[8:-1] for name in names if name.startswith("socket:")}


def _tcp_sockets() -> set[str]:
    tables = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    lines = tables.splitlines()
    return {line.split()[9] for line in lines if "inode" not in line}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has just ended, with the desktop of another test
        return ""


def replaced() -> float:
    """Screens of this process that were replaced."""
    name = "steersman_desktop_restarts_total"
    return REGISTRY.get_sample_value(name, {"outcome": "replaced"}) or 0.0


@needs_xvnc
async def test_a_dead_screen_is_replaced_and_the_next_action_says_so(
    desktop: RunningDesktop, caller: Caller
) -> None:
    await caller.start()
    await caller.act(LOOK)
    before = replaced()
    # A window manager that dies is replaced, and nobody notices.
    machine = desktop.service.sessions[caller.chat_id].machine
    assert isinstance(machine, LocalMachine)
    # Not looked for by its name, which what it starts has for a moment, too.
    manager = machine.processes[-1].pid
    assert "icewm" in _command(manager)
    os.kill(manager, 9)
    await until(lambda: machine.processes[-1].pid != manager and machine.processes[-1].running)
    assert not (await caller.act(actions.PressKeys("a"))).is_error
    assert (await caller.get()).generation == 1
    holding = asyncio.create_task(caller.act(actions.HoldKeys("shift", 60.0)))
    await acting(desktop, caller)

    xvnc = machine.processes[0].pid
    assert "Xvnc" in _command(xvnc)
    os.kill(xvnc, 9)

    ended = await holding
    async with asyncio.timeout(PATIENCE_S):  # the end of an action may be told before the new start
        while ((now := await caller.get()).state, now.generation) != ("ready", 2):
            pass
    refused = await caller.act(actions.PressKeys("a"))
    seen = await caller.act(LOOK)
    pressed = await caller.act(actions.PressKeys("a"))

    assert ended.is_error
    assert refused.is_error
    assert refused.text == "The desktop restarted; its windows are gone. Take a screenshot."
    assert seen.picture is not None
    assert not pressed.is_error
    assert replaced() == before + 1


@needs_xvnc
async def test_what_cannot_be_done_is_said_before_anything_is_pressed(
    desktop: RunningDesktop, caller: Caller
) -> None:
    await caller.start((640, 480))
    await caller.act(actions.MouseMove((5, 6)))
    outside = "x is 640, and the screen has x from 0 to 639"
    refused: dict[str, actions.Action] = {
        "the left button is not down": actions.MouseUp(),
        "text: there is no key 'retrun'; did you mean 'return'?": actions.PressKeys("a retrun"),
        "text: 'a' in 'a+b' is no modifier; before the last + there may be ctrl, shift, alt, "
        "super": actions.HoldKeys("a+b", 0.0),
        "text: character 1 is U+0007, which cannot be typed": actions.TypeText("a\x07"),
        f"coordinate: {outside}": actions.Drag(((0, 0), (640, 0))),
        f"start_coordinate: {outside}": actions.Drag(((640, 0), (0, 0))),
    }

    said = [await caller.act(action) for action in refused.values()]
    down = await caller.act(actions.MouseDown())
    again = await caller.act(actions.MouseDown())
    moved = await caller.act(actions.MouseMove((7, 8)))
    up = await caller.act(actions.MouseUp())
    where = await caller.act(actions.CursorPosition())

    assert [(reply.is_error, reply.text, reply.picture) for reply in said] == [
        (True, text, None) for text in refused
    ]
    assert (again.is_error, again.text) == (True, "the left button is down already")
    assert [reply.text for reply in (down, moved, up, where)] == [
        "The left button is down.",
        "Moved the pointer to 7,8.",
        "The left button is up.",
        "X=7,Y=8",
    ]


@needs_xvnc
async def test_limits_are_named(own_nats: NatsServer, run_dir: Path, own_uid_base: int) -> None:
    limits: dict[str, Any] = {"max_desktops": 2, "max_desktops_per_user": 1}
    async with alone(own_nats.url(), run_dir, own_uid_base, **limits) as (service, rpc):
        with pytest.raises(InvalidRequest, match="width is 5000; it must be an even number from"):
            await Caller(rpc).start((5000, 800))
        # Also of several that come at the same moment.
        answers = await asyncio.gather(
            *(Caller(rpc).start((640, 480)) for _ in range(3)), return_exceptions=True
        )
        too_many = [each for each in answers if isinstance(each, TooManyRequests)]
        # It is the chat's owner for whom a desktop counts, also when a model starts it.
        for start in (Caller(rpc).start(actor=BEN), Caller(rpc).act(LOOK)):
            with pytest.raises(TooManyRequests, match="the owner of this chat has 1"):
                await start
        service.chats.owner = BEN.user_id
        await Caller(rpc).start((640, 480))
        with pytest.raises(TooManyRequests, match="this host has its 2 desktops") as refused:
            await Caller(rpc).start()
        assert len(service.service.sessions) == 2

    assert len(too_many) == 2
    assert {error.details["limit"] for error in too_many} == {1}
    assert refused.value.details == {"limit": 2}


@needs_xvnc
async def test_two_hosts_share_the_chats(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    url = own_nats.url()
    async with (
        alone(url, run_dir, own_uid_base) as (one, rpc),
        alone(url, run_dir, own_uid_base) as (other, _),
    ):
        callers = [Caller(rpc) for _ in range(3)]
        await asyncio.gather(*(caller.start((640, 480)) for caller in callers))
        # Whoever takes a request, the one that has the desktop answers it.
        for caller in callers:
            for _ in range(6):
                assert (await caller.get()).generation == 1
                assert (await caller.act(actions.CursorPosition())).text == "X=320,Y=240"
        spread = len(other.service.sessions) + len(one.service.sessions)

    assert spread == 3


@needs_xvnc
async def test_a_limit_of_a_person_holds_over_all_hosts(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    url = own_nats.url()
    limits: dict[str, Any] = {"max_desktops_per_user": 1}
    chats = [ChatId(str(uuid.uuid4())) for _ in range(2)]
    async with (
        alone(url, run_dir, own_uid_base, **limits) as (one, rpc),
        alone(url, run_dir, own_uid_base, known=one.chats, **limits) as (other, _),
    ):
        # Each host has none yet, and hears of the start at the same moment.
        answers = await asyncio.gather(
            one.service.open(chats[0], (640, 480)),
            other.service.open(chats[1], (640, 480)),
            return_exceptions=True,
        )
        (session,) = (each for each in answers if isinstance(each, Session))
        refused = next(each for each in answers if isinstance(each, TooManyRequests))
        started, free = Caller(rpc, session.chat_id), Caller(rpc, *{*chats} - {session.chat_id})
        ((owner, host),) = one.chats.claims.values()
        with pytest.raises(TooManyRequests):
            await free.act(LOOK)  # whichever host takes it; a model starts it
        held = dict(one.chats.claims)
        await until(lambda: (host, session.chat_id) in one.chats.renewed)
        await started.stop()
        after = dict(one.chats.claims)
        await free.start((640, 480))  # nothing of the one that was refused is left behind
        (running,) = one.chats.claims
        both = {*one.service.sessions, *other.service.sessions}

    assert (refused.details, owner) == ({"limit": 1}, ANN.user_id)
    assert (held, after) == ({session.chat_id: (owner, host)}, {})
    assert both == {free.chat_id} == {running}
    assert one.chats.claims == {}  # a service that stops gives back what it has


@needs_xvnc
async def test_an_idle_desktop_stops(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    async with alone(own_nats.url(), run_dir, own_uid_base, idle_stop_s=0.5) as (_, rpc):
        caller = Caller(rpc)
        await caller.start((640, 480), ANN)
        await until_gone(run_dir)
        assert (await caller.act(LOOK)).picture is not None  # it starts again when it is used
