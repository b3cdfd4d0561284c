"""What people are shown of repositories that a stranger has filled: with real git."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.tools.test_sandbox import NOBODY, both_ways

from steersman_contracts.sandbox import Limits, Sandbox
from steersman_contracts.workspace_diff import FileChange, RepositoryDiff, WorkspaceDiff
from steersman_contracts.workspaces import WorkspaceId
from steersman_tools.repositories import find_repositories, read_repositories, read_repository
from steersman_tools.sandbox import Mode, open_sandbox

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

OWNER = NOBODY if os.geteuid() == 0 else None


@pytest.fixture
def workspace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="steersman-") as name:
        base = Path(name)
        base.chmod(0o755)
        path = base / "all" / "workspace"
        path.mkdir(parents=True)
        yield path


@pytest.fixture
def sandbox(workspace: Path, mode: Mode) -> Iterator[Sandbox]:
    with open_sandbox(mode, workspaces=workspace.parent, owner=OWNER, limits=Limits()) as sandbox:
        yield sandbox


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            **{f"GIT_{who}_NAME": "a" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "a@b" for who in ("AUTHOR", "COMMITTER")},
        },
    )


def committed(folder: Path, *words: str, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main", *words)
    for name, content in files.items():
        (folder / name).write_text(content)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def hand_over(workspace: Path) -> None:
    """As commands of the model would have left it."""
    if OWNER is None:
        return
    for path in (workspace, *workspace.rglob("*")):
        os.chown(path, *OWNER, follow_symlinks=False)


async def read(workspace: Path, sandbox: Sandbox, path: str = ".") -> RepositoryDiff:
    await asyncio.to_thread(hand_over, workspace)
    return await read_repository(workspace, path, sandbox, timeout_s=60)


async def read_all(workspace: Path, sandbox: Sandbox) -> WorkspaceDiff:
    await asyncio.to_thread(hand_over, workspace)
    found = await asyncio.to_thread(find_repositories, workspace)
    return await read_repositories(workspace, WorkspaceId("w"), sandbox, found)


def fill(workspace: Path) -> None:
    first = committed(workspace / "a", kept="1\n2\n", changed="1\n2\n", gone="x\n", moved="m\n")
    (first / "changed").write_text("1\ntwo\n3\n")
    (first / "gone").unlink()
    git(first, "mv", "moved", "there")
    (first / "new \u2603.txt").write_text("new\n")
    (first / ".gitignore").write_text("ignored\n.gitignore\n")
    (first / "ignored").write_text("x")
    second = workspace / "deep" / "b"
    second.mkdir(parents=True)
    git(second, "init", "-q", "-b", "trunk")
    (second / "first.txt").write_text("hello\n")
    committed(workspace / "a" / "inner", file="x\n")
    (workspace / "broken").mkdir()
    (workspace / "broken" / ".git").write_text("gitdir: /nowhere\n")
    (workspace / "link").symlink_to("/")


@both_ways
async def test_every_repository_says_what_is_not_committed(
    workspace: Path, sandbox: Sandbox
) -> None:
    await asyncio.to_thread(fill, workspace)

    found = await read_all(workspace, sandbox)
    again = await read_all(workspace, sandbox)

    assert found == again
    paths = {one.path: one for one in found.repositories}
    assert sorted(paths) == ["a", "a/inner", "broken", "deep/b"]
    assert paths["broken"] == RepositoryDiff(
        "broken", error="it is not a repository that can be read"
    )
    assert paths["a/inner"] == RepositoryDiff("a/inner", branch="main")
    first = paths["a"]
    assert first.changes == (
        FileChange("changed", " M", 2, 1),
        FileChange("gone", " D", 0, 1),
        FileChange("there", "R ", 1, 0, "moved"),
        FileChange("new \u2603.txt", "??", 1, 0),
    )
    assert (first.branch, first.files, first.additions, first.deletions) == ("main", 4, 4, 2)
    assert "-2\n+two\n+3\n" in first.diff
    assert "+++ b/new \u2603.txt" in first.diff
    assert "ignored" not in first.diff
    assert "Subproject" not in first.diff
    assert paths["deep/b"].branch == "trunk"
    assert "+hello" in paths["deep/b"].diff
    assert not found.truncated


HOSTILE = """
[core]
  fsmonitor = {evil}
  hooksPath = {hooks}
  sshCommand = {evil}
  attributesFile = {attributes}
  pager = {evil}
  editor = {evil}
  gitProxy = {evil}
  askPass = {evil}
[diff]
  external = {evil}
[diff "evil"]
  command = {evil}
  textconv = {evil}
[filter "evil"]
  clean = {evil}
  smudge = {evil}
  process = {evil}
  required = true
[remote "origin"]
  url = ext::{evil}
  promisor = true
  partialclonefilter = blob:none
[include]
  path = {more}
[alias]
  status = !{evil}
  diff = !{evil}
[protocol "ext"]
  allow = always
[extensions]
  partialClone = origin
"""


def poison(repository: Path, evil: Path) -> None:
    hooks = repository / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "pre-auto-gc", "fsmonitor-watchman", "reference-transaction"):
        shutil.copy(evil, hooks / name)
        shutil.copy(evil, repository / ".git" / "hooks" / name)
    attributes = repository / "attributes"
    attributes.write_text("* filter=evil diff=evil\n")
    (repository / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (repository / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil\n")
    more = repository / "more"
    more.write_text(f'[diff "evil"]\n  textconv = {evil}\n')
    config = HOSTILE.format(evil=evil, hooks=hooks, attributes=attributes, more=more)
    with (repository / ".git" / "config").open("a") as file:
        file.write(config)


@both_ways
async def test_nothing_that_a_repository_names_is_run(workspace: Path, sandbox: Sandbox) -> None:
    evil = workspace / "evil"
    trace = workspace / "it-ran"

    def arrange() -> None:
        evil.write_text(f'#!/bin/sh\necho "$0 $*" >>{trace}\ncat\n')
        evil.chmod(0o755)
        repository = committed(workspace / "bad", file="1\n", picture="2\n")
        poison(repository, evil)
        inner = committed(repository / "inner", file="x\n")
        poison(inner, evil)
        (inner / "file").write_text("y\n")
        (repository / "file").write_text("one\n")
        (repository / "untracked").write_text("u\n")
        hand_over(workspace)
        workspace.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)

    await asyncio.to_thread(arrange)

    found = await read(workspace, sandbox, "bad")
    inner = await read(workspace, sandbox, "bad/inner")

    assert not await asyncio.to_thread(trace.exists)
    assert "-1\n+one\n" in found.diff
    assert "+u\n" in found.diff
    assert "-x\n+y\n" in inner.diff
    # The traps work: git itself, asked in the same place, runs them.
    await asyncio.to_thread(
        subprocess.run,
        ["git", "-c", "safe.directory=*", "diff"],
        cwd=workspace / "bad" / "inner",
        check=False,
        capture_output=True,
    )
    assert await asyncio.to_thread(trace.exists)


@both_ways
async def test_a_submodule_is_not_entered(workspace: Path, sandbox: Sandbox) -> None:
    evil = workspace / "evil"
    trace = workspace / "it-ran"

    def arrange() -> None:
        evil.write_text(f"#!/bin/sh\necho ran >>{trace}\n")
        evil.chmod(0o755)
        outer = committed(workspace / "outer", file="1\n")
        inner = committed(outer / "module", file="x\n")
        git(outer, "add", "module")
        git(outer, "commit", "-q", "-m", "second")
        git(inner, "config", "core.fsmonitor", str(evil))
        (inner / "file").write_text("y\n")
        (outer / "file").write_text("2\n")
        (outer / "new").write_text("n\n")
        workspace.chmod(0o777)

    await asyncio.to_thread(arrange)

    found = await read(workspace, sandbox, "outer")

    assert [change.path for change in found.changes] == ["file", "new"]
    assert not await asyncio.to_thread(trace.exists)


@both_ways
async def test_much_is_cut_and_said(workspace: Path, sandbox: Sandbox) -> None:
    def arrange() -> None:
        repository = committed(workspace / "big", file="1\n")
        (repository / "file").write_text("line\n" * 200_000)
        for number in range(30):
            (workspace / f"r{number:02}").mkdir()
            (workspace / f"r{number:02}" / ".git").mkdir()

    await asyncio.to_thread(arrange)

    big = await read(workspace, sandbox, "big")
    paths, more = await asyncio.to_thread(find_repositories, workspace)

    assert big.truncated
    assert len(big.diff) == 256 << 10
    assert (big.additions, big.deletions) == (200_000, 1)
    assert (len(paths), more) == (20, True)


@pytest.mark.parametrize("mode", ["require"])
async def test_objects_and_links_lead_nowhere_else(
    workspace: Path, sandbox: Sandbox, mode: Mode
) -> None:
    """Another's objects, which only we could read: git reads them for nobody."""
    if not sandbox.isolates:
        pytest.skip("no sandbox here")
    other = workspace.parent / "other"

    def arrange() -> None:
        committed(other, secret="open sesame\n")
        head = (other / ".git" / "refs" / "heads" / "main").read_text()
        thief = committed(workspace / "thief", file="1\n")
        (thief / ".git" / "objects" / "info" / "alternates").write_text(f"{other}/.git/objects\n")
        (thief / ".git" / "refs" / "heads" / "main").write_text(head)
        linked = workspace / "linked"
        linked.mkdir()
        (linked / ".git").symlink_to(other / ".git")
        pointing = workspace / "pointing"
        pointing.mkdir()
        (pointing / ".git").write_text(f"gitdir: {other}/.git\n")

    await asyncio.to_thread(arrange)

    for path in ("thief", "linked", "pointing"):
        found = await read(workspace, sandbox, path)
        assert "sesame" not in found.diff
        assert "secret" not in found.diff
        assert found.error or path == "thief"
    assert mode == "require"


@pytest.mark.parametrize("mode", ["off"])
async def test_a_worktree_and_other_hashes_are_read_too(
    workspace: Path, sandbox: Sandbox, mode: Mode
) -> None:
    def arrange() -> None:
        main = committed(workspace / "main", file="1\n")
        git(main, "worktree", "add", "-q", "-b", "side", str(workspace / "side"))
        git(main, "pack-refs", "--all")
        (workspace / "side" / "file").write_text("2\n")
        new = committed(workspace / "new", "--object-format=sha256", file="1\n")
        (new / "file").write_text("3\n")
        git(new, "checkout", "-q", "--detach")

    await asyncio.to_thread(arrange)

    side = await read(workspace, sandbox, "side")
    new = await read(workspace, sandbox, "new")

    assert (side.branch, side.additions, side.error) == ("side", 1, "")
    assert "-1\n+2\n" in side.diff
    assert (new.branch, new.error) == ("", "")
    assert "-1\n+3\n" in new.diff
    assert mode == "off"
