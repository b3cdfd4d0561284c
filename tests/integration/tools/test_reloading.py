"""Plugins that are loaded anew while something of them goes on."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from support.toolhosts import write_plugin

from steersman_tools.plugin_book import EmptyBook
from steersman_tools.plugins import Registry, Surroundings, installed_plugins


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
