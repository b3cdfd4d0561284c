"""Ten thousand files: listed, found by name and searched, as a model asks for it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import steersman_plugin_files
from bench.context import Bench
from bench.figures import Row, Wrong, over_rounds
from steersman_contracts.parts import JsonPart
from steersman_contracts.testing import LocalContext, run_tool

FILES: Final = 10_000
CALLS: Final[tuple[tuple[str, str, dict[str, Any], str, int], ...]] = (
    ("listed", "list_files", {"recursive": True, "limit": 10_000}, "total", FILES + FILES // 100),
    ("found by name", "glob", {"pattern": "*7.py", "limit": 10_000}, "matches", FILES // 10),
    ("searched", "search_files", {"pattern": r"needle \d*7$"}, "matches", FILES // 100),
)


async def measure(bench: Bench) -> list[Row]:
    """The tools alone, without service and sandbox; the baseline is `find`, which reads nothing."""
    with tempfile.TemporaryDirectory(prefix="steersman-") as name:
        root = Path(name)
        _furnish(root)
        took: dict[str, list[float]] = {what: [] for what, *_ in CALLS}
        bare: list[float] = []
        for _ in bench.rounds(bench.size.rounds, within_s=10):
            bare.append(_find(root))
            for what, tool, arguments, fact, expected in CALLS:
                took[what].append(await _timed(root, tool, arguments, fact, expected))
    return [
        Row(
            scenario="files",
            what=f"{FILES:,} files {what}",
            unit="ms",
            measured=over_rounds(values),
            baseline=over_rounds(bare),
            samples=len(values),
            rounds=len(values),
            note="baseline: find -type f; tools alone, no service, no sandbox",
        )
        for what, values in took.items()
    ]


def _furnish(root: Path) -> None:
    root.chmod(0o755)
    for number in range(FILES):
        folder = root / f"{number // 100:03}"
        folder.mkdir(exist_ok=True)
        # One file in a hundred holds what is searched.
        text = f"needle {number}\n" if number % 10 == 7 and number % 100 < 10 else "hay\n" * 100
        (folder / f"{number}.py").write_text(text)
    if os.geteuid() == 0:
        os.chown(root, 65_534, 65_534)


def _find(root: Path) -> float:
    began = time.monotonic()
    subprocess.run(["find", str(root), "-type", "f"], check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began) * 1000


async def _timed(
    root: Path, tool: str, arguments: dict[str, Any], fact: str, expected: int
) -> float:
    began = time.monotonic()
    result = await run_tool(steersman_plugin_files, tool, arguments, LocalContext(root))
    took = (time.monotonic() - began) * 1000
    part = result.parts()[0]
    if not isinstance(part, JsonPart) or part.value[fact] != expected:
        raise Wrong(f"{tool} answered {part!r:.300} where {fact} is {expected}")
    return took
