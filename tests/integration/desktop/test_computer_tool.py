"""The tool `computer`, as a model's calls reach it: tools service, plugin, desktop service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from integration.desktop.harness import PATIENCE_S, RunningDesktop, needs_xvnc
from integration.desktop.harness import Caller as DesktopCaller
from integration.tools.host import Caller, new_chat, text_of, tools_service

import steersman_plugin_computer
from steersman.embedded.nats import NatsServer
from steersman_contracts.parts import FilePart, JsonPart
from steersman_contracts.rpc.tools import CallResult
from steersman_runtime.nats_client import close, connect
from steersman_tools.plugins import PluginSource

SOURCE = PluginSource("computer", "1", lambda: steersman_plugin_computer)


def pictures(result: CallResult) -> list[FilePart]:
    return [part for part in result.content if isinstance(part, FilePart)]


def json_of(result: CallResult) -> Any:
    (part,) = (part for part in result.content if isinstance(part, JsonPart))
    return part.value


async def until_still(caller: Caller) -> CallResult:
    """Wait until nothing paints any more, as the window manager does for a moment at the start."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            result = await caller.call("computer", {"action": "wait", "duration": 0})
            if not pictures(result):
                return result


@needs_xvnc
async def test_a_model_sees_and_uses_the_desktop(
    desktop: RunningDesktop, nats: NatsServer, tmp_path: Path
) -> None:
    del desktop
    client = await connect(
        nats.url(), name="loop", inbox_prefix="_INBOX_loop", on_closed=lambda: None
    )
    settings: dict[str, Any] = {"workspaces_dir": str(tmp_path), "ledger": "memory"}
    async with tools_service(nats.url(), [SOURCE], settings):
        caller = Caller(client, new_chat())

        seen = await caller.call("computer", {"action": "screenshot"})
        moved = await caller.call("computer", {"action": "mouse_move", "coordinate": [10, 20]})
        still = await until_still(caller)
        outside = await caller.call("computer", {"action": "left_click", "coordinate": [1280, 0]})
        missing = await caller.call("computer", {"action": "type"})
        await DesktopCaller(caller.rpc, caller.chat_id).stop()
    await close(client)

    (picture,) = pictures(seen)
    assert not seen.is_error
    assert picture.media_type == "image/png"
    assert picture.data is not None
    assert picture.data.startswith(b"\x89PNG")
    assert text_of(moved) == "Moved the pointer to 10,20."
    assert len(pictures(moved)) == 1  # the pointer is in the picture
    assert pictures(still) == []
    assert text_of(still) == "Waited 0 s. The screen looks as before."
    assert outside.is_error
    assert text_of(outside) == "coordinate: x is 1280, and the screen has x from 0 to 1279"
    assert missing.is_error
    assert text_of(missing) == "text is missing; it must be text of 1 to 10000 characters"


@needs_xvnc
async def test_files_go_from_the_workspace_to_the_desktop_and_back(
    desktop: RunningDesktop, nats: NatsServer, tmp_path: Path
) -> None:
    client = await connect(
        nats.url(), name="loop", inbox_prefix="_INBOX_loop", on_closed=lambda: None
    )
    settings: dict[str, Any] = {"workspaces_dir": str(tmp_path), "ledger": "memory"}
    async with tools_service(nats.url(), [SOURCE], settings):
        caller = Caller(client, new_chat())
        missing = await caller.call("copy_to_desktop", {"path": "data/in.bin"})
        (workspace,) = tmp_path.rglob(caller.chat_id)  # noqa: ASYNC240  # one small folder
        (workspace / "data").mkdir()
        content = bytes(range(256)) * 2000  # two pieces
        (workspace / "data/in.bin").write_bytes(content)
        (workspace / "secret").symlink_to("/etc/passwd")

        put = await caller.call("copy_to_desktop", {"path": "data/in.bin"})
        linked = await caller.call("copy_to_desktop", {"path": "secret"})
        home = desktop.service.sessions[caller.chat_id].folder() / "home"
        here = home / "Downloads"
        arrived = (here / "in.bin").read_bytes(), (here / "in.bin").stat().st_uid
        owner = home.stat().st_uid
        # What programs on the desktop put there.
        (here / "in.bin").rename(here / "out.bin")
        (here / "trap").symlink_to("/etc/passwd")
        listed = await caller.call("copy_from_desktop", {})
        back = await caller.call("copy_from_desktop", {"path": "out.bin", "to": "result/out.bin"})
        trapped = await caller.call("copy_from_desktop", {"path": "trap"})
        outside = await caller.call("copy_from_desktop", {"path": "../.icewm/menu"})
        here.rename(home / "elsewhere")
        here.symlink_to("/etc")
        led = await caller.call("copy_from_desktop", {"path": "passwd"})
        wrote = await caller.call("copy_to_desktop", {"path": "data/in.bin"})
        await DesktopCaller(caller.rpc, caller.chat_id).stop()
    await close(client)

    assert missing.is_error
    assert json_of(put) == {"path": "~/Downloads/in.bin", "size": len(content)}
    assert arrived == (content, owner)
    assert json_of(listed)["files"] == [
        {"name": "out.bin", "kind": "file", "size": len(content)},
        {"name": "trap", "kind": "link", "size": None},
    ]
    assert json_of(back) == {"path": "result/out.bin", "size": len(content)}
    assert (workspace / "result/out.bin").read_bytes() == content
    assert [result.is_error for result in (linked, trapped, outside, led, wrote)] == [True] * 5
    assert not (Path("/etc") / "in.bin").exists()  # one look


async def test_without_a_desktop_service_the_call_says_so(
    own_nats: NatsServer, tmp_path: Path
) -> None:
    client = await connect(
        own_nats.url(), name="loop", inbox_prefix="_INBOX_l", on_closed=lambda: None
    )
    settings: dict[str, Any] = {"workspaces_dir": str(tmp_path), "ledger": "memory"}
    async with tools_service(own_nats.url(), [SOURCE], settings):
        result = await Caller(client, new_chat()).call("computer", {"action": "screenshot"})
    await close(client)

    assert result.is_error
    assert text_of(result) == "no desktop service answers"
