"""Our plugins as the plugin manager, a model and an administrator meet them."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pluggy
import pytest

import steersman_plugin_exec
import steersman_plugin_files
import steersman_plugin_web
import steersman_plugin_workspaces
from steersman_contracts import hooks
from steersman_contracts.hooks import Tool
from steersman_contracts.ids import TOOL_NAME_PATTERN
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_web.settings import Settings

PLUGINS = [
    steersman_plugin_files,
    steersman_plugin_exec,
    steersman_plugin_web,
    steersman_plugin_workspaces,
]
TOOLS: list[Tool[Any]] = [
    *steersman_plugin_files.tools(),
    *steersman_plugin_exec.tools(),
    *steersman_plugin_web.offered(Settings(searxng_url="http://searxng.example")),
    *steersman_plugin_workspaces.tools(),
]
WITHOUT_WORKSPACE = {
    *("web_search", "web_fetch"),
    *(tool.name for tool in steersman_plugin_workspaces.tools()),
}


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.__name__)
def test_a_plugin_registers_under_its_entry_point(plugin: ModuleType) -> None:
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks.ToolHooks)
    manager.register(plugin)
    manager.check_pending()

    (offered,) = manager.hook.tools()

    assert [tool.name for tool in offered] == [tool.name for tool in plugin.tools()]
    found = entry_points(group=hooks.ENTRY_POINT_GROUP)
    assert plugin.__name__ in {entry.value for entry in found}


def test_the_tools_have_the_names_that_are_promised() -> None:
    assert [tool.name for tool in TOOLS] == [
        "read_file",
        "write_file",
        "edit_files",
        "apply_patch",
        "list_files",
        "glob",
        "search_files",
        "execute",
        "process_output",
        "process_list",
        "process_signal",
        "process_input",
        "web_search",
        "web_fetch",
        "list_templates",
        "read_template",
        "create_workspace",
        "start_workspace",
        "stop_workspace",
    ]


def test_what_only_looks_says_so_and_nothing_else_does() -> None:
    assert {tool.name for tool in TOOLS if tool.read_only} == {
        "read_file",
        "list_files",
        "glob",
        "search_files",
        "process_output",
        "process_list",
        "list_templates",
        "read_template",
    }


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_explains_itself_to_a_model(tool: Tool[Any]) -> None:
    assert re.fullmatch(TOOL_NAME_PATTERN, tool.name)
    assert 80 < len(tool.description) < 1_000
    assert tool.needs_workspace is (tool.name not in WITHOUT_WORKSPACE)
    schema = msgspec.json.schema(tool.arguments)
    for struct in schema["$defs"].values():
        assert struct["additionalProperties"] is False
        for name, field in struct["properties"].items():
            assert field.get("description"), name


async def test_a_tool_that_is_not_there_is_named(workspace: Path) -> None:
    with pytest.raises(LookupError, match="no tool 'nope'"):
        await run_tool(steersman_plugin_files, "nope", {}, LocalContext(workspace))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "missing required field `path`"),
        ({"path": 7}, r"Expected `str`, got `int` - at `\$.path`"),
        ({"path": "a", "offset": 0}, r"at `\$.offset`"),
        ({"path": "a", "offset": "1"}, r"at `\$.offset`"),
        ({"path": "a", "ofset": 1}, "unknown field `ofset`"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_with_their_place(
    workspace: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        await run_tool(steersman_plugin_files, "read_file", arguments, LocalContext(workspace))
