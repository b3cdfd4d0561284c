"""Agents that share the desktop of the chat above them: one acts at a time, the one above rules."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from integration.desktop.harness import (
    ANN,
    LOOK,
    Caller,
    ChatBook,
    RunningDesktop,
    acting,
    needs_xvnc,
    store_of,
    until,
)

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_contracts.errors import Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import desktop_recordings as recorded
from steersman_contracts.rpc.agent_recordings import AgentRecorded
from steersman_contracts.rpc.desktop_chats import ServerSecret
from steersman_contracts.rpc.desktop_recordings import ActionMark, FrameMark
from steersman_desktop.acting import OVERRULED
from steersman_desktop.whose import Whose
from steersman_runtime.nats_client import close, connect
from steersman_runtime.rpc import RpcClient

pytestmark = needs_xvnc
KEY = actions.PressKeys("a")
_SEEN = "this is the screen as it is now."


async def test_an_agent_uses_the_desktop_of_the_chat_above_it(
    desktop: RunningDesktop, caller: Caller
) -> None:
    child, sibling = (Caller(caller.rpc, ChatId(str(uuid.uuid4()))) for _ in range(2))
    for agent in (child, sibling):
        desktop.chats.share(agent.chat_id, caller.chat_id)
    await child.start((640, 480))
    state = await child.get()
    session = desktop.service.sessions[caller.chat_id]

    # The same call id from two chats is two actions.
    moved = await child.act(actions.MouseMove((5, 6)), key="call-1")
    above = await caller.act(actions.CursorPosition(), key="call-1")
    refused = await sibling.act(KEY)
    held = await caller.get()
    # Who is above need not wait, but has to see what the other has done.
    first = await caller.act(KEY)
    second = await caller.act(KEY)
    from_below = await child.act(KEY)

    holding = asyncio.create_task(caller.act(actions.HoldKeys("shift", 60.0)))
    await acting(desktop, caller)
    waits_not = await child.act(KEY)
    await caller.take(ANN)
    await caller.give_back(ANN)
    await holding

    assert (state.chat_id, state.width) == (caller.chat_id, 640)
    assert list(desktop.service.sessions).count(child.chat_id) == 0
    assert (moved.is_error, above.text) == (False, "X=5,Y=6")
    assert refused.text.startswith("Another agent is using this desktop. Nothing was pressed; ")
    assert held.control.agent == child.chat_id
    assert (first.is_error, first.text.endswith(_SEEN)) == (True, True)
    assert first.picture is not None
    assert not second.is_error
    assert from_below.text.startswith("An agent above you is using this desktop.")
    assert waits_not.text.startswith("An agent above you is using this desktop.")
    assert session.lease.control.agent is None


async def test_who_is_above_ends_what_one_below_is_doing(
    desktop: RunningDesktop, caller: Caller
) -> None:
    child = Caller(caller.rpc)
    desktop.chats.share(child.chat_id, caller.chat_id)
    await child.start((640, 480))
    await caller.act(LOOK)
    holding = asyncio.create_task(child.act(actions.HoldKeys("shift", 60.0), key="hold"))
    await acting(desktop, caller)

    seen = await caller.act(KEY)
    ended = await holding
    pressed = await caller.act(KEY)
    # What the agent did is recorded from its first action on, for it was spawned for that.
    session = desktop.service.sessions[caller.chat_id]
    film = recorded.ReadTimeline(ANN, child.chat_id, session.recording)
    last = await child.act(KEY)
    desktop.chats.done.add(child.chat_id)
    await until(lambda: session.recording == "")
    one = recorded.OneRecording(ANN, child.chat_id, film.recording_id)
    await child.rpc.call(recorded.STOP_RECORDING, one)  # answers when it has ended, and why
    timeline = await child.rpc.call(recorded.READ_TIMELINE, film)
    told = [each for each in desktop.chats.recorded if each.agent_id == child.chat_id]
    desktop.chats.done.clear()
    await caller.act(LOOK)  # who is nobody's agent is not recorded
    unrecorded = session.recording
    await child.act(LOOK)  # it was sent another message
    again = session.recording

    assert (ended.is_error, ended.text) == (True, OVERRULED)
    assert seen.text.endswith(_SEEN)
    assert not pressed.is_error
    done = [mark for mark in timeline.marks if isinstance(mark, ActionMark)]
    assert [(mark.action["action"], mark.text) for mark in done] == [
        ("hold_key", OVERRULED),
        ("key", seen.text),
        ("key", pressed.text),
        ("key", last.text),
    ]
    # A picture of the screen before the first of them, and none is missing at the end.
    assert isinstance(timeline.marks[0], FrameMark)
    assert (timeline.recording.state, timeline.recording.reason) == ("ended", "the agent is done")
    assert told == [AgentRecorded(child.chat_id, caller.chat_id, timeline.recording.id)]
    assert unrecorded == ""
    assert again not in {"", timeline.recording.id}


async def test_what_is_known_of_a_chat_outlasts_the_store(own_nats: NatsServer) -> None:
    chat, child, never = (ChatId(str(uuid.uuid4())) for _ in range(3))
    chats = ChatBook(servers={chat: ServerSecret("vnc.test:5900", "s3cret")})
    chats.share(child, chat)
    client = await connect(
        own_nats.url(), name="desktop", inbox_prefix="_INBOX_d", on_closed=lambda: None
    )
    whose = Whose(RpcClient(client, wait_for_service_s=0.1))
    async with store_of(own_nats.url(), chats):
        found = await whose.desktop(child)
        server = await whose.server(chat)

    still = await whose.desktop(child, fresh=True), await whose.server(chat)
    with pytest.raises(Unavailable):
        await whose.desktop(never)
    whose.forget(chat)
    with pytest.raises(Unavailable):
        await whose.server(chat)
    await close(client)

    assert (found.chat_id, found.above) == (chat, (chat,))
    assert still == (found, server)
