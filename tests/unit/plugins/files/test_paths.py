"""Nothing leads out of a workspace: not a path, not a link, not a race."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import steersman_plugin_files
from steersman_contracts.confinement import Refused, split_path
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import FilePart, JsonPart, SourcePart, TextPart
from steersman_contracts.testing import LocalContext, run_tool

libc = ctypes.CDLL(None) if sys.platform == "linux" else None
Snapshot = Callable[[Path], dict[str, tuple[int, int, bytes]]]

NAMES = [
    "..",
    ".",
    "",
    "folder",
    "file.txt",
    "new",
    "canary.txt",
    "to-canary",
    "to-outside",
    "to-parent",
    "to-itself",
    "to-folder",
    "deep",
    "workspace",
    "outside",
    "nul\0",
    "x" * 256,
    "é" * 200,
    "\udcff",
    "\n",
    "~",
    "*",
]


def furnish(root: Path) -> None:
    """Files, and links to everywhere."""
    (root / "folder" / "deep").mkdir(parents=True)
    (root / "folder" / "file.txt").write_text("inside\n")
    (root / "file.txt").write_text("inside\n")
    for place in (root, root / "folder", root / "folder" / "deep"):
        outside = root.parent / "outside"
        (place / "to-canary").symlink_to(outside / "canary.txt")
        (place / "to-outside").symlink_to(os.path.relpath(outside, place))
        (place / "to-parent").symlink_to("..")
        (place / "to-itself").symlink_to("to-itself")
        (place / "to-folder").symlink_to(outside / "folder")


def calls(path: str) -> list[tuple[str, dict[str, Any]]]:
    edits = [{"search": "canary", "replace": "cat"}, {"search": "inside", "replace": "in"}]
    return [
        ("read_file", {"path": path}),
        ("write_file", {"path": path, "content": "written"}),
        ("edit_files", {"files": [{"path": path, "edits": [edit]} for edit in edits[:1]]}),
        ("edit_files", {"files": [{"path": path, "edits": edits[1:]}]}),
        ("list_files", {"path": path, "recursive": True}),
    ]


def told(result: ToolResult) -> str:
    shown: list[str] = []
    for part in result.parts():
        match part:
            case TextPart(text=text):
                shown.append(text)
            case JsonPart(value=value):
                shown.append(repr(value))
            case FilePart(data=data):
                shown.append(repr(data))
            case SourcePart():
                raise AssertionError(part)
    return "\n".join(shown)


def joined(start: str, names: list[str]) -> str:
    return start + "/".join(names)


paths = st.builds(
    joined,
    st.sampled_from(["", "", "", "/", "//", "ROOT/", "BASE/", "ROOT/../", "./"]),
    st.lists(st.sampled_from(NAMES), max_size=6),
)


@settings(max_examples=60, deadline=None)
@given(path=paths)
async def test_no_path_reaches_anything_outside(
    path: str, new_workspace: Callable[[], AbstractContextManager[Path]], snapshot: Snapshot
) -> None:
    with new_workspace() as root:
        furnish(root)
        before = snapshot(root)
        real = path.replace("ROOT", str(root)).replace("BASE", str(root.parent))
        for name, arguments in calls(real):
            try:
                result = await run_tool(steersman_plugin_files, name, arguments, LocalContext(root))
            except UnicodeEncodeError:  # a lone surrogate does not even get onto the wire
                continue
            assert "the canary sings" not in told(result)
            if result.is_error:
                assert result.text
        assert snapshot(root) == before


@given(path=st.text() | paths)
def test_a_path_is_split_into_names_below_or_refused(path: str) -> None:
    try:
        names = split_path(path, ("/srv/space",))
    except Refused:
        return
    assert all(name not in ("", ".", "..") for name in names)
    assert all("/" not in name and "\0" not in name for name in names)
    assert not path.startswith("/") or Path(path).is_relative_to("/srv/space")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (".", ()),
        ("a/b", ("a", "b")),
        ("./a//b/.", ("a", "b")),
        ("/srv/space", ()),
        ("/srv/space/a", ("a",)),
        ("//srv/space/a", ("a",)),
        ("/private/srv/space/a", ("a",)),
        ("a..b/...", ("a..b", "...")),
    ],
)
def test_a_good_path_is_split(path: str, names: tuple[str, ...]) -> None:
    assert split_path(path, ("/srv/space", "/private/srv/space")) == names


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "the path is empty; use '.'"),
        ("..", "contains '..'"),
        ("a/../b", "contains '..'"),
        ("/srv/space/../x", "contains '..'"),
        ("/etc/passwd", "is outside the workspace; use a path relative"),
        ("/", "is outside the workspace"),
        ("/srv/space2/a", "is outside the workspace"),
        ("/workspace/a", "is outside the workspace"),
        ("a\0b", "contains a NUL character"),
        ("\ud800", "not valid Unicode"),
        ("x" * 256, "is too long: 256 bytes; use at most 255"),
        ("é" * 128, "is too long: 256 bytes"),
        ("a/" * 2_100, "the path that begins"),
        ("a/" * 129, "has 129 levels; use at most 128"),
    ],
)
def test_a_bad_path_is_refused_with_its_reason(path: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        split_path(path, ("/srv/space",))
    assert said in str(refused.value)


def _folder(path: Path) -> None:
    path.mkdir()


def _link_out(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _link_in(path: Path) -> None:
    path.symlink_to("file")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket is short; a relative one fits from everywhere.
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{descriptor}/{path.name}")
        finally:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_folder, "is a directory"),
        (_fifo, "is a FIFO; only regular files"),
        (_socket, "is a socket; only regular files"),
        (_link_out, "is a symbolic link (to '/etc/passwd')"),
        (_link_in, "is a symbolic link (to 'file')"),
    ],
)
@pytest.mark.parametrize("tool", ["read_file", "write_file", "edit_files", "search_files"])
async def test_only_regular_files_are_opened(
    workspace: Path, make: Callable[[Path], None], said: str, tool: str
) -> None:
    (workspace / "file").write_text("text")
    make(workspace / "thing")
    arguments: dict[str, dict[str, Any]] = {
        "read_file": {"path": "thing"},
        "write_file": {"path": "thing", "content": "x"},
        "edit_files": {"files": [{"path": "thing", "edits": [{"search": "a", "replace": "b"}]}]},
        "search_files": {"path": "thing", "pattern": "x"},
    }
    if tool == "search_files" and said == "is a directory":
        pytest.skip("directories are what it searches")

    result = await run_tool(steersman_plugin_files, tool, arguments[tool], LocalContext(workspace))

    assert result.is_error
    assert "'thing'" in result.text
    assert said in result.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none/a", "'none' does not exist; list_files shows what is there"),
        ("file/a", "'file' is not a directory"),
        ("link/a", "'link' is a symbolic link"),
        ("a/b/c", "'a' does not exist"),
    ],
)
@pytest.mark.parametrize("tool", ["read_file", "list_files", "search_files"])
async def test_the_part_of_a_path_that_is_wrong_is_named(
    workspace: Path, tool: str, path: str, said: str
) -> None:
    (workspace / "file").write_text("text")
    (workspace / "link").symlink_to(".")
    more = {"pattern": "x"} if tool == "search_files" else {}

    result = await run_tool(
        steersman_plugin_files, tool, {"path": path, **more}, LocalContext(workspace)
    )

    assert result.is_error
    assert said in result.text


async def test_a_missing_workspace_is_an_error_result(tmp_path: Path) -> None:
    for name, arguments in calls("a"):
        result = await run_tool(
            steersman_plugin_files, name, arguments, LocalContext(tmp_path / "none")
        )
        assert result.is_error
        assert "the workspace cannot be opened: No such file or directory" in result.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root is never refused")
async def test_what_is_forbidden_is_an_error_result(workspace: Path) -> None:
    (workspace / "shut").mkdir(mode=0)
    (workspace / "secret").write_text("x")
    (workspace / "secret").chmod(0)

    for name, arguments in [*calls("shut/a"), *calls("secret")[:1]]:
        result = await run_tool(steersman_plugin_files, name, arguments, LocalContext(workspace))
        assert result.is_error
        assert "permission denied" in result.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make such a link")
async def test_a_hard_link_to_a_file_of_somebody_else_is_not_read(workspace: Path) -> None:
    os.link(workspace.parent / "outside" / "canary.txt", workspace / "hard")

    read = await run_tool(
        steersman_plugin_files, "read_file", {"path": "hard"}, LocalContext(workspace)
    )
    found = await run_tool(
        steersman_plugin_files, "search_files", {"pattern": "canary"}, LocalContext(workspace)
    )

    assert read.is_error
    assert "is a hard link to a file of another owner" in read.text
    assert "[no matches]" in told(found)


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step: neither is ever missing."""
    here, flag = -100, 2
    assert libc is not None
    assert libc.renameat2(here, bytes(one), here, bytes(other), flag) == 0


@pytest.mark.skipif(not hasattr(libc, "renameat2"), reason="needs renameat2 of Linux")
@pytest.mark.parametrize("tool", ["read_file", "write_file", "list_files", "search_files"])
async def test_a_directory_that_turns_into_a_link_meanwhile_leads_nowhere(
    workspace: Path, snapshot: Snapshot, tool: str
) -> None:
    outside = workspace.parent / "outside"
    (workspace / "folder").mkdir()
    (workspace / "folder" / "canary.txt").write_text("inside\n")
    (workspace / "link").symlink_to(outside)
    before = snapshot(workspace)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(workspace / "folder", workspace / "link")

    arguments: dict[str, dict[str, Any]] = {
        "read_file": {"path": "folder/canary.txt"},
        "write_file": {"path": "folder/canary.txt", "content": "inside\n"},
        "list_files": {"path": "folder"},
        "search_files": {"pattern": "."},
    }
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(10 if tool == "search_files" else 300):
            result = await run_tool(
                steersman_plugin_files, tool, arguments[tool], LocalContext(workspace)
            )
            assert "sings" not in told(result)
    finally:
        stop.set()
        swapper.join()

    assert snapshot(workspace) == before
