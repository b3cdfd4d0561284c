"""A tool that runs commands in a workspace."""

from __future__ import annotations

from typing import Any

from steersman_contracts.hooks import Tool, hookimpl
from steersman_plugin_exec.execute import EXECUTE, TIMEOUT_MAX_S, Execute, execute


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the one tool."""
    return [
        Tool("execute", EXECUTE, Execute, execute, timeout_s=TIMEOUT_MAX_S, needs_workspace=True)
    ]
