"""As whom a command runs, what it sees, and where it may start."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import steersman_plugin_exec
from steersman_contracts.commands import SYSTEM_PATH, environment, search_path
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import TextPart
from steersman_contracts.sandbox import Owner, user_of_commands
from steersman_contracts.testing import LocalContext, run_tool


async def execute(workspace: Path, command: str, **arguments: Any) -> ToolResult:
    return await run_tool(
        steersman_plugin_exec,
        "execute",
        {"command": command, **arguments},
        LocalContext(workspace),
    )


def text(result: ToolResult) -> str:
    part = result.content[1]
    assert isinstance(part, TextPart)
    return part.text


def owner(uid: int, gid: int) -> os.stat_result:
    return os.stat_result((0o040755, 1, 1, 2, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("service", "workspace", "identity"),
    [
        (1000, owner(1000, 1000), None),
        (1000, owner(0, 0), None),
        (0, owner(1000, 1001), Owner(1000, 1001)),
    ],
)
def test_a_command_runs_as_the_owner_when_the_service_is_root(
    service: int, workspace: os.stat_result, identity: Owner | None
) -> None:
    assert user_of_commands(service, workspace) == identity


@given(uid=st.integers(0, 70_000), gid=st.integers(0, 70_000))
def test_root_never_runs_a_command_as_root(uid: int, gid: int) -> None:
    identity = user_of_commands(0, owner(uid, gid))

    assert identity is not None
    assert identity.uid != 0
    assert identity.gid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_root_drops_user_groups_and_the_way_back(workspace: Path) -> None:
    result = await execute(
        workspace,
        "id -u; id -G; grep -E 'NoNewPrivs|CapEff' /proc/self/status; cat /etc/shadow; touch mine",
    )

    lines = text(result).split("\n")
    status = owner_of(workspace)
    assert lines[:2] == [str(status[0]), str(status[1])]
    assert lines[2:4] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert "Permission denied" in lines[4]
    assert owner_of(workspace / "mine") == status


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else enters a closed directory")
async def test_a_directory_that_the_command_may_not_enter_is_an_error_result(
    workspace: Path,
) -> None:
    (workspace / "shut").mkdir(mode=0o700)

    result = await execute(workspace, "true", workdir="shut")

    assert result.is_error
    assert "may not enter the workdir" in result.text


def owner_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


async def test_a_command_sees_nothing_of_the_environment_of_the_service(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERSMAN_DATABASE_URL", "postgres://secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")

    result = await execute(workspace, "env; cat /proc/self/environ | tr '\\0' '\\n'")

    names = {line.partition("=")[0] for line in text(result).splitlines()}
    expected = environment({}, workspace, "/bin/bash")
    assert names <= {*expected, "TZ", "PWD", "SHLVL", "_", "OLDPWD"}
    assert "secret" not in text(result)


def test_the_environment_is_quiet_and_at_home_in_the_workspace() -> None:
    seen = environment({"PATH": "/bin", "TZ": "UTC", "SECRET": "x"}, Path("/srv/w"), "/bin/sh")

    assert seen["HOME"] == "/srv/w"
    assert (seen["PATH"], seen["TZ"]) == ("/bin", "UTC")
    assert (seen["TERM"], seen["NO_COLOR"]) == ("dumb", "1")
    assert (seen["PAGER"], seen["GIT_PAGER"]) == ("cat", "cat")
    assert (seen["EDITOR"], seen["CI"]) == ("true", "true")
    assert "SECRET" not in seen


def test_the_search_path_has_no_place_of_the_service_itself() -> None:
    own = f"{sys.prefix}/bin"
    assert sys.prefix != sys.base_prefix
    assert search_path(f"{own}:/usr/bin:relative::/bin") == "/usr/bin:/bin"
    assert search_path(own) == SYSTEM_PATH


async def test_limits_are_set(workspace: Path) -> None:
    result = await execute(workspace, "ulimit -c; ulimit -Hc; ulimit -n")

    core, hard_core, files = text(result).split()
    assert (core, hard_core) == ("0", "0")
    assert int(files) <= 65_536


@pytest.mark.parametrize("workdir", ["a/b", "./a//b/", "a/./b"])
async def test_a_command_starts_where_it_is_told(workspace: Path, workdir: str) -> None:
    (workspace / "a" / "b").mkdir(parents=True)

    relative = await execute(workspace, "pwd -P", workdir=workdir)
    absolute = await execute(workspace, "pwd -P", workdir=f"{workspace}/a/b")
    default = await execute(workspace, "pwd -P")

    assert text(relative) == text(absolute) == f"{workspace}/a/b\n"
    assert text(default) == f"{workspace}\n"


@pytest.mark.parametrize(
    ("workdir", "said"),
    [
        ("..", "workdir '..' is outside the workspace"),
        ("a/../..", "is outside the workspace"),
        ("/", "workdir '/' is outside the workspace"),
        ("/etc", "workdir '/etc' is outside the workspace"),
        ("none", "'none' is missing"),
        ("file", "'file' is missing, a symbolic link or no directory"),
        ("link", "'link' is missing, a symbolic link or no directory"),
        ("a/link/folder", "'a/link' is missing, a symbolic link or no directory"),
        ("x" * 300, "File name too long"),
        ("a\0b", "contains control characters"),
    ],
)
async def test_a_command_starts_nowhere_else(workspace: Path, workdir: str, said: str) -> None:
    (workspace / "a").mkdir()
    (workspace / "file").touch()
    for folder in (workspace, workspace / "a"):
        (folder / "link").symlink_to(workspace.parent / "outside")

    result = await execute(workspace, "echo started", workdir=workdir)

    assert result.is_error
    assert said in result.text
    assert result.content == ()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo a\0b", "contains a NUL character"),
        ("#" + "é" * 70_000, "the command has 140001 bytes; at most 131071"),
    ],
)
async def test_a_command_that_cannot_be_passed_on_is_refused(
    workspace: Path, command: str, said: str
) -> None:
    result = await execute(workspace, command)

    assert result.is_error
    assert said in result.text


async def test_a_missing_workspace_is_an_error_result(tmp_path: Path) -> None:
    result = await execute(tmp_path / "none", "true")

    assert result.is_error
    assert "the workspace is missing" in result.text
