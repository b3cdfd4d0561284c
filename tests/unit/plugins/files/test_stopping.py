"""A change that was stopped: when the call has ended, nothing changes any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import steersman_plugin_files
from steersman_contracts.confinement import open_workspace
from steersman_contracts.hooks import ToolResult
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_files import write

CHANGES: dict[str, dict[str, Any]] = {
    "write_file": {"path": "new/a", "content": "new"},
    "edit_files": {"files": [{"path": "b", "edits": [{"search": "old", "replace": "new"}]}]},
    "apply_patch": {"patch": "*** Begin Patch\n*** Delete File: b\n*** End Patch"},
}


@contextmanager
def somebody_changing(workspace: Path) -> Generator[threading.Event]:
    """Another call that is at work in the workspace, until it is told to end."""
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        with open_workspace(workspace) as opened, opened.changing():
            begun.set()
            end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    try:
        yield end
    finally:
        end.set()
        thread.join()


def everything(workspace: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in workspace.rglob("*") if path.is_file()}


def start(workspace: Path, tool: str) -> tuple[asyncio.Task[ToolResult], LocalContext]:
    context = LocalContext(workspace)
    call = run_tool(steersman_plugin_files, tool, CHANGES[tool], context)
    return asyncio.ensure_future(call), context


@pytest.mark.parametrize("tool", CHANGES)
async def test_a_call_that_is_stopped_while_it_waits_for_another_changes_nothing(
    tool: str, workspace: Path
) -> None:
    (workspace / "b").write_text("old")
    with somebody_changing(workspace) as end:
        call, context = start(workspace, tool)
        await asyncio.sleep(0)  # it is in its thread, or about to be
        context.cancelled = True
        call.cancel()
        await asyncio.sleep(0)
        assert not call.done(), "who is told that it has ended can rely on it"
        end.set()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert everything(workspace) == {"b": "old"}
    assert not (workspace / "new").exists()


async def test_what_was_changed_before_the_stop_is_told(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, go_on = threading.Event(), threading.Event()
    publish = write.Change.publish

    def slow(change: write.Change) -> None:
        publish(change)
        published.set()
        go_on.wait()

    monkeypatch.setattr(write.Change, "publish", slow)
    call, context = start(workspace, "write_file")
    await asyncio.to_thread(published.wait)
    context.cancelled = True
    call.cancel()
    await asyncio.sleep(0)
    go_on.set()

    assert not (await call).is_error
    assert everything(workspace) == {"a": "new"}
