"""Plugins that are loaded anew while something of them goes on."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from integration.tools.mcp_host import WAIT_S, configured, stdio
from support.toolhosts import write_plugin

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import UserId
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.tools import AskPlugin
from steersman_contracts.testing import LocalContext
from steersman_tools.plugin_book import EmptyBook
from steersman_tools.plugins import PluginSource, Registry, Surroundings, installed_plugins


class Gate(ModuleType):
    """What a plugin of a test waits at while it is imported."""

    def __init__(self) -> None:
        super().__init__("gate_of_a_test")
        self.reached = threading.Event()
        self.opened = threading.Event()


SLOW = """
    import gate_of_a_test
    from steersman_contracts.hooks import hookimpl

    gate_of_a_test.reached.set()
    gate_of_a_test.opened.wait(60)

    @hookimpl
    def prompt():
        return "Here at last."
"""


async def test_a_reload_waits_for_the_one_before_and_does_not_break_its_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setitem(sys.modules, gate.__name__, gate)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    write_plugin(tmp_path, "slow-import", SLOW)
    registry = Registry(
        lambda: [found for found in installed_plugins() if found.name == "slow-import"],
        Surroundings({}, EmptyBook(), 60.0),
    )
    first = asyncio.create_task(registry.load())
    await asyncio.to_thread(gate.reached.wait, 60)

    second = asyncio.create_task(registry.reload())
    await asyncio.sleep(0)  # it goes as far as it may
    gate.opened.set()

    for plugins in (await first, await second):
        assert [(one.name, one.error) for one in plugins.reports] == [("slow-import", None)]
    assert [one.text for one in registry.current.prompts] == ["Here at last."]
    await registry.close()
    sys.modules.pop("slow_import", None)


OWNER = 65_534
"""Of workspaces, when the tests run as root."""


@pytest.fixture
def workspace() -> Generator[Path]:
    """Not pytest's `tmp_path`: its parents are closed to the user that commands run as."""
    with tempfile.TemporaryDirectory(prefix="steersman-") as name:
        base = Path(name)
        base.chmod(0o755)
        root = base / "workspace"
        root.mkdir()
        if os.geteuid() == 0:
            os.chown(root, OWNER, OWNER)
        yield root


EXEC = PluginSource("exec", "1", lambda: importlib.import_module("steersman_plugin_exec"))


class Commands:
    """One chat that runs commands, with whatever code is in use at the moment."""

    def __init__(self, registry: Registry, workspace: Path) -> None:
        self._registry = registry
        self._workspace = workspace

    async def __call__(self, name: str, **arguments: Any) -> tuple[dict[str, Any], str]:
        """The facts that a tool tells, and the output that it shows."""
        hosted = self._registry.current.find(name)
        assert hosted is not None
        context = LocalContext(self._workspace, timeout_s=60)
        result = await hosted.tool.handler(context, hosted.tool.arguments(**arguments))
        assert not result.is_error, result
        (facts,) = (part.value for part in result.content if isinstance(part, JsonPart))
        return facts, "".join(part.text for part in result.content if isinstance(part, TextPart))

    async def listed(self) -> dict[str, bool]:
        """Which processes there are, and whether they run."""
        found, _ = await self("process_list")
        return {one["process_id"]: one["running"] for one in found["processes"]}


async def test_processes_can_be_asked_about_written_to_and_ended_after_reloads(
    workspace: Path,
) -> None:
    registry = Registry(lambda: [EXEC], Surroundings({}, EmptyBook(), 60.0))
    await registry.load()
    run = Commands(registry, workspace)
    read, _ = await run("execute", command="cat", background=True)
    slept, _ = await run("execute", command="sleep 1000", background=True)
    code = sys.modules["steersman_plugin_exec.processes"]

    await registry.reload()
    assert sys.modules["steersman_plugin_exec.processes"] is not code
    left, _ = await run("execute", command="sleep 2000", background=True)
    await registry.reload()
    await registry.load()  # once more with the same code

    ids = [one["process_id"] for one in (read, slept, left)]
    assert await run.listed() == dict.fromkeys(ids, True)
    told, said = await run("process_input", process_id=ids[0], text="hello", end=True, timeout_s=60)
    assert (told["running"], told["exit_code"], said) == (False, 0, "hello")
    ended, _ = await run("process_signal", process_id=ids[1], signal="kill")
    assert (ended["running"], ended["signal"]) == (False, "SIGKILL")
    await registry.current.workspace_stopped(workspace)
    told, _ = await run("process_output", process_id=ids[2], timeout_s=60)
    assert (told["running"], told["signal"]) == (False, "SIGTERM")
    assert await run.listed() == dict.fromkeys(ids, False)
    await registry.close()


async def test_the_installed_mcp_plugin_is_in_use_after_reloads_with_its_servers(
    tmp_path: Path,
) -> None:
    configured(tmp_path, stdio("hostile", "good"))
    environment = {"STEERSMAN_PLUGIN_MCP_CONFIG": str(tmp_path / "mcp.json")}
    registry = Registry(
        lambda: [found for found in installed_plugins() if found.name == "mcp"],
        Surroundings(environment, EmptyBook(), 60.0),
    )
    plugins = await registry.load()
    for _ in range(2):
        old, plugins = plugins, await registry.reload()
        assert plugins.loaded[0].plugin is not old.loaded[0].plugin

        async with asyncio.timeout(WAIT_S):
            while (hosted := plugins.find("s__t")) is None:  # noqa: ASYNC110  # a process starts
                await asyncio.sleep(0.02)
        assert [(one.name, one.state) for one in plugins.reports] == [("mcp", "in use")]
        said = await hosted.tool.handler(LocalContext(tmp_path), {})
        assert said.parts() == (TextPart("done"),)
        question = {"server_id": "s", "redirect_uri": "http://127.0.0.1/"}
        with pytest.raises(NotFound, match="there is no store with MCP servers"):
            await plugins.answer(AskPlugin(Actor(UserId("ada")), "mcp", "begin_login", question))
    await registry.close()
