"""Tools that run commands in a workspace, and look after those that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steersman_contracts.hooks import Tool, hookimpl
from steersman_plugin_exec.execute import EXECUTE, TIMEOUT_MAX_S, Execute, execute
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
    process_input,
    process_list,
    process_output,
    process_signal,
)


@hookimpl
async def workspace_stopped(workspace: Path) -> None:
    """End the processes in it, whichever chat started them."""
    await end_in(workspace, "the workspace was stopped")


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the five tools."""
    return [
        Tool("execute", EXECUTE, Execute, execute, timeout_s=TIMEOUT_MAX_S, needs_workspace=True),
        Tool(
            "process_output",
            PROCESS_OUTPUT,
            ProcessOutput,
            process_output,
            timeout_s=TIMEOUT_MAX_S,
            read_only=True,
            needs_workspace=True,
            host_of=host_of,
        ),
        Tool(
            "process_list",
            PROCESS_LIST,
            ProcessList,
            process_list,
            read_only=True,
            needs_workspace=True,
            merge=one_list,
        ),
        Tool(
            "process_signal",
            PROCESS_SIGNAL,
            ProcessSignal,
            process_signal,
            needs_workspace=True,
            host_of=host_of,
        ),
        Tool(
            "process_input",
            PROCESS_INPUT,
            ProcessInput,
            process_input,
            needs_workspace=True,
            host_of=host_of,
        ),
    ]
