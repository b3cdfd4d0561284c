"""Workspaces in containers: a deputy runs the calls, an engine the containers, a store the book."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.tools.host import text_of as text
from integration.workspaces.conftest import Chat, NewChat, StartTools, json_of, write_template
from support import container_engine
from support.chat_driver import StoreDriver
from support.container_engine import DOOMED, Container

from steersman_contracts.rpc import workspace_book as book
from steersman_contracts.rpc import workspaces as people
from steersman_contracts.rpc.tools import CallProgress
from steersman_contracts.workspaces import WorkspaceId
from steersman_tools.containers import LOST
from steersman_tools.engine import name_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are confined on Linux")

IMAGE = "registry.test/tools:1"
BOXED = f"""
name = "Boxed"
driver = "container"
[container]
image = "{IMAGE}"
memory_mib = 512
cpus = 0.5
processes = 99
[[parameters]]
name = "whom"
default = "world"
[environment]
GREETING = "hello"
[setup]
script = 'echo "$GREETING $PARAM_WHOM" | tee greeting.txt'
"""


class StandIn:
    """The engine of a test: its program, and what it has."""

    def __init__(self, folder: Path) -> None:
        self.state = folder
        (folder / "containers").mkdir(parents=True)
        (folder / "registry").write_text(f"{IMAGE}\n{DOOMED}\n")
        (folder / "images").write_text("")
        self.program = folder / "engine"
        self.program.write_text(
            f'#!/bin/sh\nexec {sys.executable} {container_engine.__file__} {folder} "$@"\n'
        )
        self.program.chmod(0o755)

    def container(self, workspace_id: str) -> Container:
        return Container(self.state, name_of(WorkspaceId(workspace_id)))

    def leave_behind(self, workspace_id: str, deployment: str) -> Container:
        """A container whose maker has died."""
        one = self.container(workspace_id)
        labels = [f"steersman.workspace={workspace_id}", f"steersman.deployment={deployment}"]
        one.file.write_text(json.dumps({"pid": 0, "labels": labels}))
        return one

    @property
    def names(self) -> list[str]:
        return [one.name for one in container_engine.containers(self.state)]


@pytest.fixture
def engine(base: Path) -> Iterator[StandIn]:
    stand_in = StandIn(base / "engine")
    yield stand_in
    for one in container_engine.containers(stand_in.state):
        one.end(0)


def settings(engine: StandIn, **more: Any) -> dict[str, Any]:
    return {
        "container_engine": str(engine.program),
        "container_start_s": 60.0,
        "workspace_look_s": 0.2,
        **more,
    }


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not holds():  # noqa: ASYNC110  # neither files nor processes tell anybody
            await asyncio.sleep(0.05)


async def test_a_chat_works_in_a_container_through_its_whole_life(
    start_tools: StartTools,
    new_chat: NewChat,
    templates: Path,
    engine: StandIn,
    store: StoreDriver,
    base: Path,
) -> None:
    write_template(templates, "boxed", BOXED)
    await start_tools(**settings(engine))
    chat = await new_chat()
    told: list[str] = []

    made = json_of(
        await chat.call(
            "create_workspace",
            {"template_id": "boxed", "parameters": {"whom": "box"}},
            on_progress=lambda frame: told.append(frame.text),
        )
    )

    workspace = made["workspace"]
    assert (made["outcome"], workspace["state"]) == ("created", "running")
    assert any(f"pull {IMAGE}" in line or "fetching" in line for line in told)
    assert told[-1] == "hello box"
    container = engine.container(workspace["id"])
    options: Any = container.read()["options"]
    assert {
        name: options[name] for name in ("memory", "cpus", "pids_limit", "hostname", "read_only")
    } == {
        "memory": str(512 << 20),
        "cpus": "0.5",
        "pids_limit": "99",
        "hostname": "workspace",
        "read_only": True,
    }
    # Tools act in it, with the environment of the template; its files are where people look.
    assert "hello box" in text(await chat.call("read_file", {"path": "greeting.txt"}))
    await chat.json("write_file", path="made.txt", content="by a tool\n")
    shown = await execute(chat, 'echo "$GREETING,$PPID"; env | grep -c STEERSMAN; cat made.txt')
    parent = shown.partition("hello,")[2].split()[0]
    assert "by a tool" in shown
    assert "\n0\n" in shown
    assert int(parent) != os.getpid()
    files = base / "workspaces" / f"w-{workspace['id']}"
    assert (files / "made.txt").read_text() == "by a tool\n"
    # What goes on in the background is there for the next call.
    begun = json_of(
        await chat.call("execute", {"command": "read -r line; echo got $line", "background": True})
    )
    answered = await chat.call(
        "process_input",
        {"process_id": begun["process_id"], "text": "it\n", "timeout_s": 30, "end": True},
    )
    assert "got it" in text(answered)
    # A container that dies costs the call that ran, and is there again for the next.
    runs = asyncio.Event()

    def on_progress(frame: CallProgress) -> None:
        if "runs" in frame.text:
            runs.set()

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        call = group.create_task(
            chat.call(
                "execute",
                {"command": "echo runs; exec sleep 300", "timeout_s": 300},
                on_progress=on_progress,
            )
        )
        await runs.wait()
        first = container.pid
        os.killpg(first, signal.SIGKILL)
        assert text(await call) == LOST
    assert "by a tool" in await execute(chat, "cat made.txt")
    assert container.pid != first
    # Stopped, it is gone; its files stay, and it can be started.
    assert (await chat.json("stop_workspace"))["workspace"]["state"] == "stopped"
    assert engine.names == []
    refused = await chat.call("read_file", {"path": "made.txt"})
    assert "start_workspace" in text(refused)
    assert (await chat.json("start_workspace"))["workspace"]["state"] == "running"
    assert engine.names == [container.name]
    assert "by a tool" in await execute(chat, "cat made.txt")
    # Deleted, nothing is left.
    await store.rpc.call(people.DELETE, people.OneWorkspace(store.actor, workspace["id"]))
    await until(lambda: not engine.names and not files.exists())
    await until(lambda: [path.name for path in files.parent.glob("w-*")] == [])


async def execute(chat: Chat, command: str) -> str:
    result = await chat.call("execute", {"command": command, "timeout_s": 60})
    assert not result.is_error, result
    return text(result)


async def test_what_is_missing_is_said_and_nothing_is_left_of_it(
    start_tools: StartTools, new_chat: NewChat, templates: Path, engine: StandIn, base: Path
) -> None:
    write_template(templates, "boxed", BOXED)
    write_template(templates, "nowhere", 'name = "A"\ndriver = "container"\n')
    write_template(
        templates,
        "doomed",
        f'name = "A"\ndriver = "container"\n[container]\nimage = "{DOOMED}"\n',
    )
    service = await start_tools(**settings(engine, container_engine=str(base / "no-engine")))
    chat = await new_chat()

    missing = await chat.call("create_workspace", {"template_id": "boxed"})

    assert missing.is_error
    assert text(missing) == (
        f"workspaces in containers need an engine, and '{base}/no-engine' is not there"
    )
    await service.stop()
    await start_tools(**settings(engine, container_image="registry.test/unknown:1"))
    for template, reason in (
        ("nowhere", "manifest unknown"),
        ("doomed", "its container has ended; it printed:\nNo module named steersman_tools"),
    ):
        failed = await chat.call("create_workspace", {"template_id": template})
        assert failed.is_error
        assert json_of(failed)["outcome"] == "failed"
        assert reason in json_of(failed)["workspace"]["reason"]
        assert engine.names == []


async def test_what_is_idle_is_stopped_and_what_nobody_needs_is_swept_away(
    start_tools: StartTools,
    new_chat: NewChat,
    templates: Path,
    engine: StandIn,
    store: StoreDriver,
    base: Path,
) -> None:
    write_template(templates, "boxed", BOXED)
    more = {"container_sweep_s": 0.2, "running_workspaces_per_user": 1}
    first = await start_tools(**settings(engine, **more))
    chat = await new_chat()
    made = await chat.json("create_workspace", template_id="boxed")
    kept = engine.container(made["workspace"]["id"])
    other = await new_chat()
    refused = await other.call("create_workspace", {"template_id": "boxed"})
    assert "as many as may" in text(refused)

    token = (base / "workspaces" / ".deployment").read_text()
    orphan = engine.leave_behind("00000000-0000-4000-8000-000000000000", token)
    strange = engine.leave_behind("11111111-0000-4000-8000-000000000000", "of-another-deployment")

    await until(lambda: orphan.name not in engine.names)
    assert sorted(engine.names) == sorted([kept.name, strange.name])
    await first.stop()
    assert kept.status == "running"  # it belongs to no replica
    await start_tools(**settings(engine, workspace_idle_s=0.1))
    await until(lambda: kept.name not in engine.names)
    async with asyncio.timeout(40):
        while True:  # the book tells nobody
            found = await store.rpc.call(
                book.GET, book.GetWorkspace(made["workspace"]["id"], store.actor)
            )
            if found.state == "stopped":
                break
            await asyncio.sleep(0.05)
