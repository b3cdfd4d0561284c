"""A plugin that does nothing: what a call costs beside its work."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BOOKED: Final = "bench_noop"
"""As most tools: never run twice, so the call is booked before it begins and before its answer."""
UNBOOKED: Final = "bench_look"
"""As tools that only read."""

_CODE: Final = f"""
import msgspec
from steersman_contracts.hooks import Tool, ToolResult, hookimpl

class NoArguments(msgspec.Struct, frozen=True):
    pass

async def nothing(context, args):
    return ToolResult("done")

@hookimpl
def tools():
    return [
        Tool("{BOOKED}", "Does nothing.", NoArguments, nothing),
        Tool("{UNBOOKED}", "Looks at nothing.", NoArguments, nothing, read_only=True),
    ]
"""


def install(folder: Path) -> Path:
    """Put it where `PYTHONPATH` finds it, as a wheel would be; returns the folder."""
    info = folder / "bench_noop-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "bench_noop.py").write_text(_CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-noop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[steersman.plugins]\nbench-noop = bench_noop\n")
    return folder
