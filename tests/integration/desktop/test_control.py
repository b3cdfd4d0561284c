"""The agent or one person has the input: taking, giving back, privacy, and what everybody sees."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
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
    needs_xvnc,
    until,
)
from integration.gateway.stand_in import make_log
from prometheus_client import REGISTRY
from websockets.asyncio import client as websocket
from websockets.typing import Subprotocol

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_contracts import subjects
from steersman_contracts.errors import Conflict, Forbidden
from steersman_contracts.events import DesktopControlChanged
from steersman_contracts.rpc.desktop import (
    MAKE_TICKET,
    REDEEM_TICKET,
    MakeTicket,
    RedeemTicket,
)
from steersman_desktop.acting import CANCELLED, TAKEN
from steersman_desktop.control import USED_SINCE
from steersman_desktop.tickets import digest
from steersman_runtime.jetstream import StoredMessage, read_subject
from steersman_runtime.nats_client import close, connect

pytestmark = needs_xvnc
KEY = actions.PressKeys("a")


def counted(action: str, outcome: str) -> float:
    """How many actions of the agent ended so in this process."""
    labels = {"action": action, "by": "agent", "outcome": outcome}
    return REGISTRY.get_sample_value("steersman_desktop_actions_total", labels) or 0.0


async def test_a_person_takes_control_at_once_and_the_agent_looks_before_it_goes_on(
    desktop: RunningDesktop, caller: Caller
) -> None:
    await caller.start((640, 480))
    before = {outcome: counted("hold_key", outcome) for outcome in ("taken", "done")}
    pressed_before = {outcome: counted("key", outcome) for outcome in ("refused", "done")}
    holding = asyncio.create_task(caller.act(actions.HoldKeys("shift", 60.0)))
    await acting(desktop, caller)

    taken = await caller.take(ANN)
    ended = await holding
    refused = await caller.act(KEY)
    seen = await caller.act(LOOK)
    await caller.give_back(ANN)
    not_looked = await caller.act(KEY)
    pressed = await caller.act(KEY)

    assert (taken.control.holder, taken.control.reason) == ("ann", "taken")
    assert (ended.is_error, ended.text) == (True, TAKEN)
    assert refused.is_error
    assert "A person is controlling the desktop." in refused.text
    assert seen.picture is not None
    assert not_looked.is_error
    assert not_looked.text.endswith("Nothing was pressed; this is the screen as it is now.")
    assert not_looked.picture is not None
    assert not pressed.is_error
    assert counted("hold_key", "taken") == before["taken"] + 1
    assert counted("hold_key", "done") == before["done"]
    assert counted("key", "refused") == pressed_before["refused"] + 2
    assert counted("key", "done") == pressed_before["done"] + 1


async def test_one_person_at_a_time(caller: Caller) -> None:
    await caller.start((640, 480))
    await caller.take(ANN)

    with pytest.raises(Conflict, match="another person controls the desktop"):
        await caller.take(BEN)
    with pytest.raises(Forbidden):
        await caller.give_back(BEN)
    with pytest.raises(Forbidden, match="take control of the desktop first"):
        await caller.act(KEY, actor=BEN)
    moved = await caller.act(actions.MouseMove((7, 9)), actor=ANN)

    assert not moved.is_error
    assert (await caller.act(actions.CursorPosition())).text == "X=7,Y=9"


async def test_in_private_the_agent_does_not_see_the_screen(caller: Caller) -> None:
    await caller.start((640, 480))

    await caller.take(ANN, private=True)
    hidden = [
        await caller.act(action)
        for action in (LOOK, actions.Zoom((0, 0, 10, 10)), actions.Wait(0.0))
    ]
    await caller.take(ANN, private=False)
    shown = await caller.act(LOOK)

    assert {(reply.is_error, reply.picture) for reply in hidden} == {(True, None)}
    assert shown.picture is not None


@asynccontextmanager
async def viewing(caller: Caller) -> AsyncGenerator[websocket.ClientConnection]:
    """A person who may control, in the live view, as a gateway carries them."""
    ticket = await caller.rpc.call(MAKE_TICKET, MakeTicket(ANN, caller.chat_id, "control"))
    redeem = RedeemTicket(caller.chat_id, digest(ticket.ticket))
    grant = await caller.rpc.call(REDEEM_TICKET, redeem)
    async with websocket.connect(
        f"ws://{grant.address}/view",
        subprotocols=[Subprotocol("binary")],
        additional_headers={"Authorization": f"Bearer {grant.key}"},
        proxy=None,
    ) as socket:
        # All that this end says to get in; what the server answers is not looked at.
        await socket.send(b"RFB 003.008\n" + b"\x01" + b"\x01")
        yield socket


async def test_who_does_nothing_loses_control_and_what_they_held(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int
) -> None:
    name = "steersman_desktop_dropped_inputs_total"
    async with alone(own_nats.url(), run_dir, own_uid_base, control_idle_s=0.6) as (service, rpc):
        caller = Caller(rpc)
        await caller.start((640, 480))
        session = service.service.sessions[caller.chat_id]
        async with viewing(caller) as socket, asyncio.timeout(PATIENCE_S):
            while not session.pressed_by_people:  # on a slow machine it may end before they press
                await caller.take(ANN)
                await socket.send(struct.pack(">BBHH", 5, 1, 30, 40))
                await caller.act(LOOK)
            await until(lambda: session.lease.control.holder is None)
            state = await caller.get()
            held = session.pressed_by_people
            dropped = REGISTRY.get_sample_value(name) or 0.0
            await socket.send(struct.pack(">BBHH", 5, 1, 50, 60))
            await until(lambda: (REGISTRY.get_sample_value(name) or 0.0) > dropped)
            not_looked = await caller.act(actions.MouseMove((1, 2)))
            where = await caller.act(actions.CursorPosition())
            moved = await caller.act(actions.MouseMove((1, 2)))

    assert (state.control.holder, state.control.reason) == (None, "timeout")
    assert not held
    assert (not_looked.is_error, not_looked.text) == (True, USED_SINCE)
    assert not_looked.picture is not None
    assert where.text == "X=30,Y=40"
    assert not moved.is_error


async def test_every_change_of_control_is_in_the_log_of_the_chat(
    nats: NatsServer, caller: Caller
) -> None:
    client = await connect(
        nats.url(), name="log", inbox_prefix="_INBOX_log", on_closed=lambda: None
    )
    await make_log(client)
    await caller.start((640, 480))

    await caller.take(ANN)
    await caller.take(ANN, private=True)
    await caller.give_back(ANN)
    await caller.take(BEN)
    await caller.stop()

    found: list[StoredMessage] = []
    subject = subjects.chat_events(caller.chat_id)
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < 5:
            found.clear()
            await read_subject(client, subjects.EVENT_STREAM, subject, on_message=found.append)
    await close(client)
    controls = [
        msgspec.json.decode(message.payload, type=DesktopControlChanged).control
        for message in found
    ]
    assert [(c.holder, c.private, c.reason) for c in controls] == [
        ("ann", False, "taken"),
        ("ann", True, "taken"),
        (None, False, "given_back"),
        ("ben", False, "taken"),
        (None, False, "stopped"),
    ]
    assert [c.revision - controls[0].revision for c in controls] == [0, 1, 2, 3, 4]


async def test_an_action_runs_once_and_can_be_cancelled(
    desktop: RunningDesktop, caller: Caller
) -> None:
    await caller.start((640, 480))
    first = await caller.act(actions.MouseMove((3, 4)), key="same")
    await caller.act(actions.MouseMove((5, 6)))
    again = await caller.act(actions.MouseMove((3, 4)), key="same")
    where = await caller.act(actions.CursorPosition())

    holding = asyncio.create_task(caller.act(actions.HoldKeys("ctrl", 60.0), key="hold"))
    await acting(desktop, caller)
    await caller.cancel("hold")
    ended = await holding

    assert again == first
    assert where.text == "X=5,Y=6"
    assert (ended.is_error, ended.text) == (True, CANCELLED)


async def test_an_equal_screen_is_not_sent_again(caller: Caller) -> None:
    await caller.start((640, 480))
    async with asyncio.timeout(PATIENCE_S):
        while True:  # the window manager paints for a moment
            seen = await caller.act(LOOK)
            assert seen.picture is not None
            same = await caller.act(actions.Wait(0.0), last_digest=seen.picture.digest)
            if same.unchanged:
                break

    asked = await caller.act(LOOK, last_digest=seen.picture.digest)

    assert same.picture is None
    assert asked.picture == seen.picture
