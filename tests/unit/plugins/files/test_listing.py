from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import steersman_plugin_files
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.testing import LocalContext, run_tool


async def listing(workspace: Path, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
    result = await run_tool(
        steersman_plugin_files, "list_files", arguments, LocalContext(workspace)
    )
    match result.parts():
        case (JsonPart(value=facts), TextPart(text=text)):
            return facts, text.split("\n")
        case other:
            raise AssertionError(other)


def furnish(root: Path) -> None:
    (root / "src" / "deep").mkdir(parents=True)
    (root / "src" / "deep" / "x.py").write_text("x")
    (root / ".git" / "objects").mkdir(parents=True)
    (root / "a.txt").write_text("12345")
    (root / "link").symlink_to("../outside")
    os.mkfifo(root / "pipe")


async def test_entries_are_sorted_and_say_what_they_are(workspace: Path) -> None:
    furnish(workspace)

    facts, lines = await listing(workspace)

    assert lines == [
        ".git/",
        "a.txt (5 bytes)",
        "link -> ../outside (symbolic link)",
        "pipe (FIFO)",
        "src/",
    ]
    assert facts == {"path": ".", "shown": 5, "total": 5, "total_exact": True}


async def test_a_recursive_listing_goes_into_directories_but_not_into_git_or_links(
    workspace: Path,
) -> None:
    furnish(workspace)

    _, lines = await listing(workspace, recursive=True)
    _, below = await listing(workspace, path="src", recursive=True)

    assert lines[-3:] == ["src/", "src/deep/", "src/deep/x.py (1 bytes)"]
    assert not any("objects" in line or "canary" in line for line in lines)
    assert below == ["deep/", "deep/x.py (1 bytes)"]


async def test_more_than_the_limit_is_cut_and_counted(workspace: Path) -> None:
    for number in range(30):
        (workspace / f"{number:02}").touch()

    facts, lines = await listing(workspace, limit=10)

    assert lines[9:] == [
        "09 (0 bytes)",
        "[cut: 20 more entries; list a directory below, or raise limit]",
    ]
    assert (facts["shown"], facts["total"]) == (10, 30)


async def test_a_listing_never_exceeds_the_size_of_a_result(workspace: Path) -> None:
    for number in range(400):
        (workspace / f"{number:03}{'x' * 240}").touch()

    facts, lines = await listing(workspace, limit=10_000)

    assert len("\n".join(lines).encode()) < 64 * 1024 + 100
    assert facts["shown"] == len(lines) - 1 < 400


async def test_names_stay_on_one_line_whatever_they_hold(workspace: Path) -> None:
    (workspace / "a\nb").touch()
    (workspace / os.fsdecode(b"\xff")).touch()
    (workspace / "é").touch()

    _, lines = await listing(workspace)

    assert lines == ["a\\nb (0 bytes)", "é (0 bytes)", "\\udcff (0 bytes)"]


async def test_an_empty_directory_is_said_to_be_empty(workspace: Path) -> None:
    assert (await listing(workspace))[1] == ["[the directory is empty]"]


async def test_very_deep_trees_come_to_an_end(workspace: Path) -> None:
    descriptor = os.open(workspace, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)

    facts, _ = await listing(workspace, recursive=True)

    assert facts["total"] == 65


@pytest.mark.parametrize("path", ["a.txt", "link", "none", "pipe"])
async def test_what_is_no_directory_is_refused(workspace: Path, path: str) -> None:
    furnish(workspace)

    result: ToolResult = await run_tool(
        steersman_plugin_files, "list_files", {"path": path}, LocalContext(workspace)
    )

    assert result.is_error
    assert repr(path) in result.text
