from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

import steersman_plugin_files
from steersman_contracts.hooks import ToolResult
from steersman_contracts.testing import LocalContext, run_tool


async def write(workspace: Path, path: str, content: str) -> ToolResult:
    return await run_tool(
        steersman_plugin_files,
        "write_file",
        {"path": path, "content": content},
        LocalContext(workspace),
    )


def names(workspace: Path) -> list[str]:
    return sorted(str(path.relative_to(workspace)) for path in workspace.rglob("*"))


def owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


async def test_a_file_is_made_with_the_directories_above_it(workspace: Path) -> None:
    result = await write(workspace, "a/b/c.txt", "é\r\n")

    expected: dict[str, Any] = {"path": "a/b/c.txt", "created": True, "size": 4, "total_lines": 1}
    assert result == ToolResult.json(expected)
    assert (workspace / "a/b/c.txt").read_bytes() == "é\r\n".encode()
    assert names(workspace) == ["a", "a/b", "a/b/c.txt"]


async def test_an_absolute_path_below_the_workspace_is_good(workspace: Path) -> None:
    result = await write(workspace, str(workspace / "a.txt"), "x")

    assert not result.is_error
    assert names(workspace) == ["a.txt"]


@pytest.mark.parametrize("mode", [0o755, 0o600, 0o664])
async def test_replacing_keeps_the_mode_and_leaves_nothing_beside(
    workspace: Path, mode: int
) -> None:
    (workspace / "run.sh").write_text("old")
    (workspace / "run.sh").chmod(mode)
    before = (workspace / "run.sh").stat()

    result = await write(workspace, "run.sh", "new")

    after = (workspace / "run.sh").stat()
    assert not result.is_error
    assert stat.S_IMODE(after.st_mode) == mode
    assert after.st_ino != before.st_ino  # replaced as a whole: a reader has the old or the new
    assert names(workspace) == ["run.sh"]


async def test_a_write_protected_file_is_left_alone(workspace: Path) -> None:
    (workspace / "file").write_text("old")
    (workspace / "file").chmod(0o444)

    result = await write(workspace, "file", "new")

    assert result.is_error
    assert "'file' is write-protected (mode 0444)" in result.text
    assert (workspace / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (".", "is the workspace itself; name a file"),
        ("new/", "ends with '/'; name a file"),
        ("folder", "is a directory"),
        ("file/below", "'file' is not a directory"),
    ],
)
async def test_what_cannot_be_a_file_is_refused(workspace: Path, path: str, said: str) -> None:
    (workspace / "folder").mkdir()
    (workspace / "file").touch()

    result = await write(workspace, path, "x")

    assert result.is_error
    assert said in result.text
    assert names(workspace) == ["file", "folder"]


async def test_too_much_content_is_refused(workspace: Path) -> None:
    result = await write(workspace, "file", "é" * (5 * 1024 * 1024 // 2) + "x")

    assert result.is_error
    assert "5242881 bytes; at most 5242880" in result.text
    assert names(workspace) == []


async def test_a_link_in_the_place_of_the_file_is_not_written_through(workspace: Path) -> None:
    outside = workspace.parent / "outside" / "canary.txt"
    (workspace / "link").symlink_to(outside)

    result = await write(workspace, "link", "x")

    assert result.is_error
    assert outside.read_text() == "the canary sings\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_what_root_makes_belongs_to_the_owner_of_the_workspace(workspace: Path) -> None:
    (workspace / "old").write_text("x")

    await write(workspace, "a/b/new", "x")
    await write(workspace, "old", "y")

    assert owner(workspace) != (0, 0)
    for name in ("a", "a/b", "a/b/new", "old"):
        assert owner(workspace / name) == owner(workspace), name


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
import steersman_plugin_files
from steersman_contracts.testing import LocalContext, run_tool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
arguments = {"path": "file", "content": "x" * 2000}
context = LocalContext(Path(sys.argv[1]))
print(asyncio.run(run_tool(steersman_plugin_files, "write_file", arguments, context)).text)
"""


async def test_a_disk_that_is_full_in_the_middle_of_a_write_leaves_the_old_file(
    workspace: Path,
) -> None:
    (workspace / "file").write_text("old")
    # A limit on the size of files ends in the middle of a write as a full disk does. It holds for
    # a whole process, hence one of its own.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL, str(workspace), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()

    assert told == b"'file' cannot be used: File too large\n"
    assert (workspace / "file").read_text() == "old"
    assert names(workspace) == ["file"]


async def test_writes_at_the_same_time_each_leave_a_whole_file(workspace: Path) -> None:
    contents = [str(n) * 50_000 for n in range(10)]

    results = await asyncio.gather(*(write(workspace, "file", text) for text in contents))

    assert not any(result.is_error for result in results)
    assert (workspace / "file").read_text() in contents
    assert names(workspace) == ["file"]
