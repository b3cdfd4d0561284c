from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import steersman_plugin_files
from steersman_contracts.confinement import Refused, open_workspace
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_files.diff import hunks
from steersman_plugin_files.edit import Edited, publish_all
from steersman_plugin_files.edits import Draft, EditRefused, apply_edit
from steersman_plugin_files.text import Text, lines_of
from steersman_plugin_files.write import staged

MAX = 5 * 1024 * 1024


def edit(search: str, replace: str, *, replace_all: bool = False) -> dict[str, Any]:
    return {"search": search, "replace": replace, "replace_all": replace_all}


async def edit_files(workspace: Path, files: dict[str, list[dict[str, Any]]]) -> ToolResult:
    arguments = {"files": [{"path": path, "edits": edits} for path, edits in files.items()]}
    return await run_tool(steersman_plugin_files, "edit_files", arguments, LocalContext(workspace))


def names(workspace: Path) -> list[str]:
    return sorted(path.name for path in workspace.iterdir())


def apply(text: str, *edits: tuple[str, str, bool]) -> Draft:
    draft = Draft.of(text)
    for search, replace, replace_all in edits:
        draft, _ = apply_edit(draft, search, replace, replace_all=replace_all, max_size=MAX)
    return draft


async def test_edits_are_applied_in_order_and_shown_as_diffs(workspace: Path) -> None:
    (workspace / "a.py").write_text("".join(f"line {n}\n" for n in range(1, 21)))
    (workspace / "b.py").write_text("x = 1\ny = 1")

    result = await edit_files(
        workspace,
        {
            "a.py": [
                edit("line 3\n", "three\n"),
                edit("three", "III"),
                edit("line 18\nline 19\n", ""),
            ],
            "b.py": [edit("1", "2", replace_all=True)],
        },
    )

    assert result.parts() == (
        JsonPart(
            {
                "files": [
                    {"path": "a.py", "replacements": 3, "size": 132},
                    {"path": "b.py", "replacements": 2, "size": 11},
                ]
            }
        ),
        TextPart(
            "--- a/a.py\n+++ b/a.py\n"
            "@@ -1,6 +1,6 @@\n line 1\n line 2\n-line 3\n+III\n line 4\n line 5\n line 6\n"
            "@@ -15,6 +15,4 @@\n line 15\n line 16\n line 17\n-line 18\n-line 19\n line 20\n"
            "--- a/b.py\n+++ b/b.py\n"
            "@@ -1,2 +1,2 @@\n-x = 1\n-y = 1\n\\ No newline at end of file\n"
            "+x = 2\n+y = 2\n\\ No newline at end of file"
        ),
    )
    assert (workspace / "b.py").read_text() == "x = 2\ny = 2"


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([edit("absent words", "x")], "edit 1 of 1: search was not found; no line of the file"),
        ([edit("", "x")], "edit 1 of 1: search is empty"),
        ([edit("one", "one")], "edit 1 of 1: search and replace are the same"),
        (
            [edit("one", "1"), edit("o", "0")],
            "edit 2 of 2: search was found 7 times, at line 2, 2, 4, 4, 4 and 2 more; add lines",
        ),
        (
            [edit("  four\n  two", "x")],
            "the same text with other white space begins at line 4, which is 'four o o'",
        ),
        (
            [edit("one\ntwo o\nmore", "x")],
            "its first 2 of 3 lines are at line 1, but then comes 'three', not 'more'",
        ),
        (
            [edit("two o\nthree\nfour o o\ntwo o\nsix", "x")],
            "its first 4 of 5 lines are at line 2, but then comes the end of the file, not 'six'",
        ),
        ([edit("threee!", "x")], "the line most like its first is line 3: 'three'"),
        ([edit("\n\n\n", "x")], "search was not found; read the file again"),
        ([edit("one", "1" * MAX)], "the file would grow over 5242880 bytes"),
        ([edit("o", "1" * 2_000_000, replace_all=True)], "the file would grow over"),
    ],
)
async def test_an_edit_that_does_not_fit_says_what_was_found(
    workspace: Path, edits: list[dict[str, Any]], said: str
) -> None:
    content = "one\ntwo o\nthree\nfour o o\ntwo o"
    if "white space" in said:
        content = "one\ntwo o\nthree\nfour o o\n\ttwo o"
        edits = [edit("  four o o\n  two o", "x")]
    (workspace / "good").write_text("fine")
    (workspace / "file").write_text(content)

    result = await edit_files(workspace, {"good": [edit("fine", "bad")], "file": edits})

    assert result.is_error
    assert result.text.startswith("'file', edit ")
    assert said in result.text
    assert result.text.endswith("; no edits applied")
    assert (workspace / "file").read_text() == content
    assert (workspace / "good").read_text() == "fine"
    assert names(workspace) == ["file", "good"]


def make(workspace: Path) -> None:
    (workspace / "good").write_text("fine")
    (workspace / "latin").write_bytes(b"caf\xe9")
    (workspace / "binary").write_bytes(b"\0")
    (workspace / "large").write_bytes(b"x" * (MAX + 1))
    (workspace / "protected").write_text("fine")
    (workspace / "protected").chmod(0o400 if os.geteuid() else 0o444)
    (workspace / "folder").mkdir()
    (workspace / "hard").hardlink_to(workspace / "good")
    if os.geteuid() == 0:  # of another owner, the link would be refused for that
        os.chown(workspace / "good", workspace.stat().st_uid, workspace.stat().st_gid)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none", "'none' does not exist"),
        ("latin", "'latin' is not UTF-8"),
        ("binary", "'binary' is binary data"),
        ("large", "'large' has 5242881 bytes; at most 5242880 can be edited"),
        ("protected", "'protected' is write-protected"),
        ("folder", "'folder' is a directory"),
        ("../outside/canary.txt", "contains '..'"),
        ("./good", "'good' is the same file as 'good'"),
        ("hard", "'hard' is the same file as 'good'"),
    ],
)
async def test_a_file_that_cannot_be_edited_stops_all_edits(
    workspace: Path, path: str, said: str
) -> None:
    make(workspace)

    result = await edit_files(
        workspace, {"good": [edit("fine", "bad")], path: [edit("fine", "good")]}
    )

    assert result.is_error
    assert said in result.text
    assert result.text.endswith("; no edits applied")
    assert (workspace / "good").read_text() == "fine"
    assert not [name for name in names(workspace) if name.startswith(".")]


async def test_mode_byte_order_mark_and_line_endings_are_kept(workspace: Path) -> None:
    (workspace / "file").write_bytes(b"\xef\xbb\xbfone\r\ntwo\nthree\r\nfour\r\n")
    (workspace / "file").chmod(0o755)

    result = await edit_files(
        workspace,
        {
            "file": [
                edit("one\ntwo", "1\n1b\n2"),
                edit("three\r\nfour\n", "3\n4\n"),
                edit("2\n", "2\n2b\n"),
            ]
        },
    )

    assert not result.is_error
    assert (workspace / "file").read_bytes() == b"\xef\xbb\xbf1\r\n1b\r\n2\n2b\n3\r\n4\r\n"
    assert stat.S_IMODE((workspace / "file").stat().st_mode) == 0o755


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
async def test_text_in_utf_16_is_read_searched_and_stays_so(workspace: Path, encoding: str) -> None:
    mark = "\ufeff".encode(encoding)
    (workspace / "wide").write_bytes(mark + "één\r\ntwo\r\n".encode(encoding))

    async def call(tool: str, **arguments: Any) -> str:
        result = await run_tool(steersman_plugin_files, tool, arguments, LocalContext(workspace))
        assert not result.is_error, result.text
        return str(result.parts())

    shown = await call("read_file", path="wide")
    assert f"{encoding} with BOM" in shown
    assert "één" in shown
    assert "wide:2: two" in await call("search_files", pattern="^two")
    edits = [{"search": "één\ntwo", "replace": "één\n2"}]
    await call("edit_files", files=[{"path": "wide", "edits": edits}])
    await call("apply_patch", patch="--- a/wide\n+++ b/wide\n@@ -1,2 +1,2 @@\n-één\n+zwei\n 2\n")

    assert (workspace / "wide").read_bytes() == mark + "zwei\r\n2\r\n".encode(encoding)


async def test_edits_of_one_file_at_the_same_time_all_count(workspace: Path) -> None:
    (workspace / "file").write_text("".join(f"<{n}>\n" for n in range(20)))

    results = await asyncio.gather(
        *(edit_files(workspace, {"file": [edit(f"<{n}>", f"[{n}]")]}) for n in range(20))
    )

    assert not any(result.is_error for result in results)
    assert (workspace / "file").read_text() == "".join(f"[{n}]\n" for n in range(20))


async def test_a_diff_that_is_too_long_is_cut_and_says_how_much(workspace: Path) -> None:
    (workspace / "file").write_text("".join(f"line {n}\n" for n in range(20_000)))

    result = await edit_files(workspace, {"file": [edit("line", "LINE", replace_all=True)]})

    text = result.content[1]
    assert isinstance(text, TextPart)
    assert len(text.text.encode()) < 64 * 1024 + 100
    shown = text.text.count("\n")
    missing = 40_003 - shown
    assert text.text.endswith(f"\n[cut: {missing} more lines of diff; all edits are applied]")
    assert (workspace / "file").read_text().startswith("LINE 0\n")


def edited(stack: ExitStack, root: Path, name: str) -> Edited:
    workspace = stack.enter_context(open_workspace(root))
    place = stack.enter_context(workspace.place(name))
    text = (root / name).read_text()
    draft = apply(text, (text, text.upper(), False))
    return Edited(place, (root / name).lstat(), Text(text), draft, 1)


def _other_content(path: Path) -> None:
    path.write_text("changed")


def _gone(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _replaced(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.write_text("beta")


@pytest.mark.parametrize(
    "change",
    [
        _other_content,
        _gone,
        _link,
        _replaced,
    ],
)
def test_what_changes_between_reading_and_writing_stops_all_edits(
    workspace: Path, change: Callable[[Path], None]
) -> None:
    (workspace / "a").write_text("alpha")
    (workspace / "b").write_text("beta")
    with ExitStack() as stack:
        root = stack.enter_context(open_workspace(workspace))
        files = [edited(stack, workspace, name) for name in "ab"]
        changes = [stack.enter_context(staged(root, f.place, f.data(), f.before)) for f in files]
        change(workspace / "b")

        with pytest.raises(Refused):
            publish_all(root, files, changes)

    assert (workspace / "a").read_text() == "alpha"
    assert not [name for name in names(workspace) if name.startswith(".")]


def test_a_file_that_cannot_be_put_in_place_takes_the_earlier_ones_back(workspace: Path) -> None:
    (workspace / "a").write_text("alpha")
    (workspace / "b").write_text("beta")
    with ExitStack() as stack:
        root = stack.enter_context(open_workspace(workspace))
        files = [edited(stack, workspace, name) for name in "ab"]
        changes = [stack.enter_context(staged(root, f.place, f.data(), f.before)) for f in files]
        (workspace / changes[1].temporary).unlink()  # the new content of b is lost

        with pytest.raises(Refused, match="'b' does not exist"):
            publish_all(root, files, changes)

    assert (workspace / "a").read_text() == "alpha"
    assert (workspace / "b").read_text() == "beta"
    assert not [name for name in names(workspace) if name.startswith(".")]


# Few letters, so that searches are found often, and more than once.
texts = st.text(alphabet="ab\n", max_size=40)
searches = st.text(alphabet="ab\n", max_size=4)
mixed_lines = st.tuples(st.text(alphabet="ab", max_size=3), st.sampled_from(["\n", "\r\n"]))
edit_lists = st.lists(st.tuples(searches, searches, st.booleans()), min_size=1, max_size=4)


def reference(text: str, edits: list[tuple[str, str, bool]]) -> str | None:
    """What plain search and replace would do; None if an edit is to be refused."""
    for search, replace, replace_all in edits:
        found = len(re.findall(f"(?={re.escape(search)})", text)) if search else 0
        if not found or search == replace or (found > 1 and not replace_all):
            return None
        text = text.replace(search, replace)
    return text


@settings(max_examples=100, deadline=None)
@given(text=texts, edits=edit_lists)
def test_edits_do_what_plain_search_and_replace_does(
    text: str, edits: list[tuple[str, str, bool]]
) -> None:
    expected = reference(text, edits)
    if expected is None:
        with pytest.raises(EditRefused):
            apply(text, *edits)
    else:
        assert apply(text, *edits).text == expected


@settings(max_examples=100, deadline=None)
@given(text=st.lists(mixed_lines), edits=edit_lists)
def test_line_endings_make_no_difference_and_stay(
    text: list[tuple[str, str]], edits: list[tuple[str, str, bool]]
) -> None:
    raw = "".join(line + end for line, end in text)
    plain = raw.replace("\r\n", "\n")
    expected = reference(plain, edits)
    if expected is None:
        return
    result = apply(raw, *edits)

    assert result.text.replace("\r\n", "\n") == expected
    if "\r\n" not in raw:
        assert "\r\n" not in result.text
    if plain.count("\n") == raw.count("\r\n") > 0:
        assert result.text.count("\n") == result.text.count("\r\n")
    # What was not touched is the same line with the same ending.
    lines = lines_of(raw)
    for line, origin in zip(lines_of(result.text), result.origins, strict=True):
        assert origin is None or lines[origin] == line


@settings(max_examples=40, deadline=None)
@given(contents=st.lists(texts, min_size=1, max_size=3), edits=st.data())
async def test_either_all_edits_of_all_files_are_applied_or_none(
    contents: list[str],
    edits: st.DataObject,
    new_workspace: Callable[[], AbstractContextManager[Path]],
) -> None:
    lists = [edits.draw(edit_lists) for _ in contents]
    with new_workspace() as root:
        for number, text in enumerate(contents):
            (root / str(number)).write_text(text)
        expected = [reference(text, each) for text, each in zip(contents, lists, strict=True)]

        result = await edit_files(
            root,
            {
                str(number): [edit(a, b, replace_all=c) for a, b, c in each]
                for number, each in enumerate(lists)
            },
        )

        after = [(root / str(number)).read_text() for number in range(len(contents))]
        assert result.is_error == (None in expected)
        assert after == (contents if None in expected else expected)
        assert not result.is_error or result.text.endswith("no edits applied")
        assert len(names(root)) == len(contents)


@settings(max_examples=100, deadline=None)
@given(text=texts, edits=edit_lists)
def test_a_diff_leads_from_the_old_text_to_the_new(
    text: str, edits: list[tuple[str, str, bool]]
) -> None:
    if reference(text, edits) is None:
        return
    draft = apply(text, *edits)
    assert patched(text, list(hunks(text, draft))) == draft.text


def patched(old: str, found: list[list[str]]) -> str:
    lines, new = lines_of(old), list[str]()
    at = 0
    for header, *body in found:
        match = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", header)
        assert match is not None
        start = int(match[1]) - (match[2] != "0")
        new += lines[at:start]
        assert int(match[3]) - (match[4] != "0") == len(new)
        at = start
        for index, line in enumerate(body):
            if line.startswith("\\"):
                continue
            bare = index + 1 < len(body) and body[index + 1].startswith("\\")
            content = line[1:] + ("" if bare else "\n")
            if line[0] in " -":
                assert lines[at] == content
                at += 1
            if line[0] in " +":
                new.append(content)
    return "".join(new + lines[at:])


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs the patch command")
async def test_the_patch_command_understands_the_diff(workspace: Path, tmp_path: Path) -> None:
    old = "".join(f"line {n}\n" for n in range(100)) + "end"
    (workspace / "file").write_text(old)
    (tmp_path / "file").write_text(old)

    result = await edit_files(
        workspace,
        {"file": [edit("line 5\n", ""), edit("line 50", "x\ny"), edit("line 99\nend", "end\n")]},
    )
    text = result.content[1]
    assert isinstance(text, TextPart)
    await asyncio.to_thread(
        subprocess.run, ["patch", "-p1"], cwd=tmp_path, input=text.text.encode() + b"\n", check=True
    )

    assert (tmp_path / "file").read_text() == (workspace / "file").read_text()


def test_a_large_file_with_far_apart_edits_is_quick() -> None:
    text = "".join(f"{n % 50}\n" for n in range(100_000)) + "last\n"
    draft = apply(text, ("0\n1\n2\n3\n4\n5\n6\n7\n8\n", "n\n", True), ("last", "end", False))

    found = list(hunks(text, draft))

    assert patched(text, found) == draft.text
    assert len(found) == 2_001


def test_a_text_that_repeats_itself_is_counted_and_compared_only_so_far() -> None:
    """Each of these took minutes, with the lock of the interpreter held."""
    for text, search, replace_all, said in (
        ("a" * MAX, "a" * 4000, False, "search was found more than 1000 times, at line 1, 1, 1, 1"),
        (
            "x\n" * (MAX // 2),
            "x\n" * 3999 + "y",
            False,
            "its first 3999 of 4000 lines are at line 1, but then comes 'x', not 'y'",
        ),
        ("a\r\n" * (MAX // 3), "a", True, "search was found more than 100000 times; use sed"),
    ):
        with pytest.raises(EditRefused) as refused:
            apply(text, (search, "b", replace_all))
        assert said in str(refused.value)
