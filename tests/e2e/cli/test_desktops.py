"""A chat's desktop from a shell, and what is left of it when the chat is deleted."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from e2e.cli.conftest import StartChat, text_of, until
from e2e.cli.terminal import run
from fakes import FakeProviders, Text, ToolCall, Turn
from fakes.script import RequestView
from support.deployment import Deployment

from steersman.client import Client, View
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import FilePart, JsonPart, ToolResultPart
from steersman_contracts.rpc.desktop_recordings import ActionMark, FrameMark

pytestmark = [
    pytest.mark.skipif(
        shutil.which("Xvnc") is None or shutil.which("icewm") is None,
        reason="needs Xvnc and icewm: apt-get install tigervnc-standalone-server icewm",
    ),
]


@pytest.mark.timeout(240)
async def test_a_desktop_is_started_seen_recorded_and_goes_with_its_chat(
    env: dict[str, str],
    client: Client,
    start_chat: StartChat,
    deployment: Deployment,
    tmp_path: Path,
) -> None:
    chat = await start_chat("demo/echo")

    async def say(*words: str) -> list[str]:
        done = await run(env, "desktop", *words)
        assert done.code == 0, done.err
        return done.out.splitlines()

    assert await say("state", chat) == ["state    absent"]
    started = await say("start", chat, "--size", "640x480")
    assert started[:2] == ["state    ready", "size     640x480"]
    await say("screenshot", chat, str(tmp_path / "screen.png"))
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "in.txt").write_text("from the workspace")
    assert await say("put", chat, str(tmp_path / "in.txt"), "a b.txt") == ["18 bytes"]
    assert await say("files", chat) == ["          18  a b.txt"]
    await say("get", chat, "a b.txt", str(tmp_path / "out.txt"))
    assert (tmp_path / "out.txt").read_text() == "from the workspace"
    assert await say("server", chat) == ["none"]
    refused = await run(env, "desktop", "server", chat, "--use", "127.0.0.1:22")
    assert (refused.code, "does not allow the VNC server" in refused.err) == (1, True)
    (recording,) = await say("recordings", "start", chat)
    async with asyncio.timeout(60):
        # Nobody announces a picture.
        while not (await client.get_recording(chat, recording)).recording.frames:  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.1)
    assert (await say("recordings", "stop", chat, recording))[1].split()[:2] == [recording, "ended"]
    assert "picture 1" in (await say("recordings", "get", chat, recording))[0]
    film = tmp_path / "film.zip"
    await say("recordings", "download", chat, recording, str(film), "--format", "zip")
    assert film.read_bytes().startswith(b"PK")
    (second,) = await say("recordings", "start", chat)
    await say("recordings", "delete", chat, recording, "--yes")
    listed = await say("recordings", "list", chat)
    assert [line.split()[0] for line in listed[1:]] == [second]
    kept = deployment.data / "recordings" / chat
    assert [path.name for path in kept.iterdir()] == [second]

    await client.delete_chat(chat)

    async with asyncio.timeout(90):
        while kept.exists():  # noqa: ASYNC110  # nobody announces that either
            await asyncio.sleep(0.1)


def answered(view: RequestView) -> list[str]:
    # Not by steps: a picture goes to this provider as a message of a person.
    return [result.text for message in view.messages for result in message.results]


def parent(view: RequestView) -> Turn:
    match answered(view):
        case []:
            wanted = {"prompt": "Go to 7, 9.", "model": "screen/child", "type": "computer_use"}
            return Turn([ToolCall("spawn_agent", dict[str, object](wanted))])
        case [spawned]:
            agent_id: object = json.loads(spawned)["agent_id"]
            return Turn([ToolCall("wait_agent", {"agent_ids": [agent_id]})])
        case _:
            return Turn([Text("It is done.")])


def child(view: RequestView) -> Turn:
    acts: tuple[dict[str, object], ...] = (
        {"action": "screenshot"},
        {"action": "mouse_move", "coordinate": [7, 9]},
        {"action": "screenshot"},
    )
    done = len(answered(view))
    return Turn([ToolCall("computer", acts[done])] if done < len(acts) else [Text("I went there.")])


def is_done(view: View) -> bool:
    return any(text_of(message) == "It is done." for message in view.messages)


@pytest.mark.timeout(240)
async def test_an_agent_uses_a_desktop_and_who_sent_it_sees_the_last_picture_and_the_run(
    env: dict[str, str], client: Client, start_chat: StartChat
) -> None:
    async with FakeProviders() as fakes:
        fakes.script("parent", parent)
        fakes.script("child", child)
        added = await run(
            *(env, "provider", "add", "screen", "--base-url", fakes.base_url("chat")),
            *("--model", "parent", "--model", "child"),
        )
        assert added.code == 0, added.err
        chat = await start_chat("screen/parent", "Send somebody.")
        await until(client, chat, is_done)
        prompts = {request.view.system for request in fakes.requests if request.model == "child"}
        assert (await run(env, "provider", "remove", "screen")).code == 0

    messages = (await client.list_messages(chat, limit=200)).messages
    *_, reports = (p for m in messages for p in m.parts if isinstance(p, ToolResultPart))
    told, seen = reports.content
    assert isinstance(told, JsonPart)
    (agent,) = told.value["agents"]
    assert (agent["status"], agent["report"]) == ("completed", "I went there.")
    (recording,) = agent["recordings"]
    # The picture that the agent saw last is the one that its chat has last.
    own = (await client.list_messages(ChatId(agent["agent_id"]), limit=200)).messages
    shown = [
        item
        for message in own
        for part in message.parts
        if isinstance(part, ToolResultPart)
        for item in part.content
        if isinstance(item, FilePart)
    ]
    assert isinstance(seen, FilePart)
    assert seen == shown[-1]
    assert seen.data is not None
    (prompt,) = prompts
    assert "Begin with a screenshot" in prompt

    # What it did can be looked at, from a picture before its first action on.
    of_chat, _, film = recording.removesuffix("/player").rpartition("/")
    assert of_chat.endswith(f"/chats/{agent['agent_id']}/desktop/recordings")
    async with asyncio.timeout(60):
        while True:  # nobody announces its end
            timeline = await client.get_recording(ChatId(agent["agent_id"]), film)
            if timeline.recording.state == "ended":
                break
            await asyncio.sleep(0.1)
    done = [mark for mark in timeline.marks if isinstance(mark, ActionMark)]
    assert [mark.action["action"] for mark in done] == ["screenshot", "mouse_move", "screenshot"]
    assert all(mark.call_id for mark in done)
    assert isinstance(timeline.marks[0], FrameMark)
    assert timeline.recording.reason == "the agent is done"
