"""Tools that run commands in a workspace, and look after those that go on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from steersman_contracts.hooks import PluginHost, Tool, hookimpl
from steersman_plugin_exec.execute import EXECUTE, TIMEOUT_MAX_S, Execute, execute
from steersman_plugin_exec.generations import Generations
from steersman_plugin_exec.processes import end_in
from steersman_plugin_exec.steering import (
    PROCESS_INPUT,
    PROCESS_LIST,
    PROCESS_OUTPUT,
    PROCESS_SIGNAL,
    ProcessInput,
    ProcessList,
    ProcessOutput,
    ProcessSignal,
    host_of,
    one_list,
)

_generations: Final = Generations()
_STOPPED: Final = "the workspace was stopped"


@hookimpl
async def start(host: PluginHost) -> None:
    """Find what ran before a reload: it can still be asked about, written to and ended."""
    _generations.follow(host.kept)


@hookimpl
async def workspace_stopped(workspace: Path) -> None:
    """End the processes in it, whichever chat started them."""
    await _generations.end_in(workspace, _STOPPED)
    await end_in(workspace, _STOPPED)


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the five tools."""
    return [
        Tool("execute", EXECUTE, Execute, execute, timeout_s=TIMEOUT_MAX_S, needs_workspace=True),
        Tool(
            "process_output",
            PROCESS_OUTPUT,
            ProcessOutput,
            partial(_generations.ask, "process_output"),
            timeout_s=TIMEOUT_MAX_S,
            read_only=True,
            needs_workspace=True,
            host_of=host_of,
        ),
        Tool(
            "process_list",
            PROCESS_LIST,
            ProcessList,
            _generations.list_all,
            read_only=True,
            needs_workspace=True,
            merge=one_list,
        ),
        Tool(
            "process_signal",
            PROCESS_SIGNAL,
            ProcessSignal,
            partial(_generations.ask, "process_signal"),
            needs_workspace=True,
            host_of=host_of,
        ),
        Tool(
            "process_input",
            PROCESS_INPUT,
            ProcessInput,
            partial(_generations.ask, "process_input"),
            needs_workspace=True,
            host_of=host_of,
        ),
    ]
