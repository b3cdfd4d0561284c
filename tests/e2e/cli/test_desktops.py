"""A chat's desktop from a shell, and what is left of it when the chat is deleted."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from e2e.cli.conftest import StartChat
from e2e.cli.terminal import run
from support.deployment import Deployment

from steersman.client import Client

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
