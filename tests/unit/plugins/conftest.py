"""Workspaces on a real file system, each with a canary beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

OWNER = 65_534
"""Of workspaces, when the tests run as root."""


@contextmanager
def _new_workspace() -> Generator[Path]:
    # Not pytest's tmp_path: its parents are closed to the user that commands run as.
    with tempfile.TemporaryDirectory(prefix="steersman-") as name:
        base = Path(name)
        base.chmod(0o755)
        root = base / "workspace"
        root.mkdir()
        if os.geteuid() == 0:
            os.chown(root, OWNER, OWNER)
        (base / "outside" / "folder").mkdir(parents=True)
        (base / "outside" / "canary.txt").write_text("the canary sings\n")
        yield root


def _snapshot(workspace: Path) -> dict[str, tuple[int, int, bytes]]:
    found: dict[str, tuple[int, int, bytes]] = {}
    outside = workspace.parent / "outside"
    for path in [workspace.parent, outside, *sorted(outside.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


@pytest.fixture
def workspace() -> Generator[Path]:
    """A workspace. `outside/canary.txt` lies beside it."""
    with _new_workspace() as root:
        yield root


@pytest.fixture(scope="session")
def new_workspace() -> Callable[[], AbstractContextManager[Path]]:
    """For property tests, which need a new one for each example."""
    return _new_workspace


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, tuple[int, int, bytes]]]:
    """Everything about what is beside a workspace; the names in its parent are in the mtime."""
    return _snapshot
