"""`apply_patch`: what patches say, what they make of files, and that it is all or nothing."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import steersman_plugin_files
from steersman_contracts.confinement import Place, Refused
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonPart
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_files.apply_patch import Step, run_all
from steersman_plugin_files.edit import HalfDone
from steersman_plugin_files.patch import Places, parse, patched


async def apply(workspace: Path, patch: str) -> ToolResult:
    return await run_tool(
        steersman_plugin_files, "apply_patch", {"patch": patch}, LocalContext(workspace)
    )


def facts(result: ToolResult) -> list[dict[str, Any]]:
    part = result.parts()[0]
    assert isinstance(part, JsonPart), result.text
    return part.value["files"]


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_bytes().decode()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def marked(*lines: str) -> str:
    return "\n".join(["*** Begin Patch", *lines, "*** End Patch", ""])


def unified(*lines: str) -> str:
    return "\n".join(["--- a/a", "+++ b/a", *lines, ""])


async def test_one_patch_changes_makes_moves_and_deletes(workspace: Path) -> None:
    (workspace / "a.py").write_text("def f():\n    return 1\n\n\ndef g():\n    return 1\n")
    (workspace / "old.txt").write_text("one\ntwo\n")
    (workspace / "old.txt").chmod(0o755)
    (workspace / "gone").write_text("x")

    result = await apply(
        workspace,
        marked(
            "*** Add File: new/deep/b.txt",
            "+first",
            "+",
            "+last",
            "*** Update File: a.py",
            "@@ def g():",
            "-    return 1",
            "+    return 2",
            "*** Update File: old.txt",
            "*** Move to: moved.txt",
            "@@",
            " one",
            "-two",
            "+three",
            "*** Delete File: gone",
        ),
    )

    assert contents(workspace) == {
        "a.py": "def f():\n    return 1\n\n\ndef g():\n    return 2\n",
        "moved.txt": "one\nthree\n",
        "new/deep/b.txt": "first\n\nlast\n",
    }
    assert facts(result) == [
        {"path": "a.py", "action": "updated", "size": 46},
        {"path": "gone", "action": "deleted"},
        {"path": "new/deep/b.txt", "action": "added", "size": 12},
        {"path": "moved.txt", "action": "moved", "size": 10, "from": "old.txt"},
    ]
    assert (workspace / "moved.txt").stat().st_mode & 0o777 == 0o755
    made = (".", "new", "new/deep", "new/deep/b.txt", "a.py", "moved.txt")
    assert len({(workspace / name).stat().st_uid for name in made}) == 1


async def test_a_unified_diff_is_understood(workspace: Path) -> None:
    (workspace / "a").write_text("x\nsame\nx\nsame\nx\n")
    (workspace / "gone").write_text("1\n")
    patch = """diff --git a/a b/a
index 1..2 100644
--- a/a
+++ b/a
@@ -4,1 +4,2 @@ context
-same
+other
+more
diff --git a/gone b/gone
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-1
--- /dev/null
+++ b/new
@@ -0,0 +1,2 @@
+n
+m
\\ No newline at end of file
"""

    await apply(workspace, patch)

    assert contents(workspace) == {"a": "x\nsame\nx\nother\nmore\nx\n", "new": "n\nm"}


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("nonsense", "it holds no file"),
        ("*** Begin Patch\n*** Add File: a\n+x\n", "it does not end with '*** End Patch'"),
        (marked("what"), "line 2: expected '*** Update File: PATH', not 'what'"),
        (marked("*** Add File: a", "x"), "line 3: each line of a new file begins with '+'"),
        (marked("*** Delete File: a", "x"), "line 3: nothing follows"),
        (marked("*** Update File: a"), "'a': there is nothing to change"),
        (marked("*** Update File: a", "@@", "*x"), "line 4: a line of a hunk begins with"),
        (marked("*** Update File: none", "@@", "-x"), "'none' does not exist"),
        (marked("*** Update File: a", "@@", "-absent"), "'a', hunk 1 of 1: its lines were not"),
        (marked("*** Update File: a", "@@", "-x"), "were found 2 times, at line 1, 3; add lines"),
        (marked("*** Update File: a", "@@ nowhere", "-x"), "no line 'nowhere' was found"),
        (marked("*** Add File: a", "+x"), "'a' is there already"),
        (marked("*** Delete File: none"), "'none' does not exist"),
        (marked("*** Delete File: folder"), "'folder' is a directory"),
        (marked("*** Delete File: link"), "'link' is a symbolic link"),
        (marked("*** Add File: ../a", "+x"), "contains '..'"),
        (marked("*** Add File: link/a", "+x"), "'link' is a symbolic link"),
        (marked("*** Update File: a", "*** Move to: b"), "'b' is there already"),
        (marked("*** Delete File: a", "*** Add File: ./a", "+x"), "occurs twice in the patch"),
        (marked("*** Update File: binary", "@@", "-x"), "'binary' is binary data"),
        ("--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n", "name no file"),
        (
            marked("*** Update File: a", "@@", "-y", "+z") + marked("*** Delete File: b"),
            "line 7: nothing follows '*** End Patch'",
        ),
        (unified("@@ -1,2 +1,3 @@", " x", "+new", "lost", " y"), "line 6: a line of a hunk begins"),
        (unified("@@ -2 +2 @@", "-y", "+z", "@@", "-x"), "line 6: a hunk of a unified diff begins"),
        *(
            (f"diff --git a/b b/b\n{said}\n{rest}", f"{said!r} without hunks is not understood")
            for said in ("rename from b", "new file mode 100644", "Binary files a/b and b/b differ")
            for rest in (f"diff --git a/a b/a\n{unified('@@ -2 +2 @@', '-y', '+z')}", "")
        ),
    ],
)
async def test_a_patch_that_does_not_fit_changes_nothing_and_says_why(
    workspace: Path, patch: str, said: str
) -> None:
    (workspace / "a").write_text("x\ny\nx\n")
    (workspace / "b").write_text("b\n")
    (workspace / "c").write_text("c\n")
    (workspace / "binary").write_bytes(b"x\0")
    (workspace / "folder").mkdir()
    (workspace / "link").symlink_to("folder")
    before = contents(workspace)
    if patch.startswith("*** Begin") and not said.startswith(("line ", "it does")):
        patch = patch.replace("*** Begin Patch", "*** Begin Patch\n*** Update File: c\n@@\n-c\n+d")

    result = await apply(workspace, patch)

    assert result.is_error
    assert said in result.text
    assert result.text.endswith("; no files changed")
    assert contents(workspace) == before


async def test_line_endings_and_a_byte_order_mark_stay(workspace: Path) -> None:
    (workspace / "dos").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\nthree")
    (workspace / "mixed").write_bytes(b"a\r\nb\nc\n")

    await apply(
        workspace,
        marked(
            *("*** Update File: dos", "@@", " one", "-two", "+2", "+2b", " three"),
            *("*** Update File: mixed", "@@", " a", "-b", "+B", " c"),
        ),
    )

    assert (workspace / "dos").read_bytes() == b"\xef\xbb\xbfone\r\n2\r\n2b\r\nthree"
    assert (workspace / "mixed").read_bytes().replace(b"B\r\n", b"B\n") == b"a\r\nB\nc\n"


@pytest.mark.parametrize(
    ("hunk", "result"),
    [
        (["@@", "+end"], "a\nb\na\nb\nend\n"),
        (["@@ a", "+after"], "a\nafter\nb\na\nb\n"),
        (["@@", "-b", "+B", "*** End of File"], "a\nb\na\nB\n"),
        (["@@ b", " a", "-b", "+c"], "a\nb\na\nc\n"),
        (["@@ b", "-a", "@@", "-b"], "a\nb\n"),
        (["@@ -3,1 +3,1 @@", "-a", "+A"], "a\nb\nA\nb\n"),
    ],
)
def test_a_hunk_finds_its_place(hunk: list[str], result: str) -> None:
    (file,) = parse(marked("*** Update File: x", *hunk))

    assert patched("a\nb\na\nb\n", file) == result


@pytest.mark.parametrize(
    ("hunk", "before", "after"),
    [
        (["@@ -1 +1 @@", "-a", "\\ No newline at end of file", "+a"], "a", "a\n"),
        (["@@ -1 +1 @@", "-a", "+a", "\\ No newline at end of file"], "a\n", "a"),
        (["@@ -1,2 +1,2 @@", " a", "--- b", "+++ c", "-- ", "2.47.0"], "a\n-- b\n", "a\n++ c\n"),
        (["@@ -1,9 +1,9 @@", "-a", "+b", "```"], "a\n", "b\n"),
        (["@@ -1 +1 @@", "-a", " b", "+c"], "a\nb\n", "b\nc\n"),
    ],
)
def test_a_unified_diff_says_where_it_ends(hunk: list[str], before: str, after: str) -> None:
    (file,) = parse(unified(*hunk))

    assert patched(before, file) == after


def test_a_line_of_a_file_does_not_end_a_patch() -> None:
    (file,) = parse(marked("*** Update File: x", "@@", " *** End Patch", "-a", "+b"))

    assert patched("*** End Patch\na\n", file) == "*** End Patch\nb\n"


texts = st.lists(st.sampled_from(["a", "b", "", " c", "+d", "-e", "@@ f"]), max_size=12)


@given(
    old=texts, new=texts, context=st.integers(0, 3), ends=st.tuples(st.booleans(), st.booleans())
)
def test_any_diff_leads_from_the_old_text_to_the_new(
    old: list[str], new: list[str], context: int, ends: tuple[bool, bool]
) -> None:
    before, after = ("\n".join(lines) + ("\n" if lines else "") for lines in (old, new))
    if before == after:
        return
    diff = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "a/x", "b/x", n=context
    )

    (file,) = parse("".join(diff))

    assert patched(before, file) == after


names = st.sampled_from(["a", "b", "c/d"])
kinds = st.sampled_from(["add", "update", "delete", "move"])


@given(
    there=st.dictionaries(names, texts, max_size=3),
    patch=st.lists(st.tuples(kinds, names, texts, names), min_size=1, max_size=3),
)
async def test_either_the_whole_patch_is_applied_or_nothing(
    new_workspace: Callable[[], AbstractContextManager[Path]],
    there: dict[str, list[str]],
    patch: list[tuple[str, str, list[str], str]],
) -> None:
    lines: list[str] = []
    for kind, name, text, target in patch:
        match kind:
            case "add":
                lines += [f"*** Add File: {name}", *(f"+{line}" for line in text)]
            case "delete":
                lines.append(f"*** Delete File: {name}")
            case _:
                lines.append(f"*** Update File: {name}")
                lines += [f"*** Move to: {target}x"] if kind == "move" else []
                lines += ["@@", *(f"-{line}" for line in text[:2]), "+new"]
    with new_workspace() as root:
        for name, text in there.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text("".join(f"{line}\n" for line in text))
        before = contents(root)

        result = await apply(root, marked(*lines))

        after = contents(root)
        assert not [name for name in after if ".steersman" in name]
        if result.is_error:
            assert after == before
            return
        for kind, name, text, target in patch:
            assert (name in after) == (kind in ("add", "update"))
            if kind == "add":
                assert after[name] == "".join(f"{line}\n" for line in text)
            if kind == "move":
                assert "new\n" in after[f"{target}x"]


@pytest.mark.parametrize("back", [True, False])
def test_a_step_that_fails_takes_the_earlier_ones_back(back: bool) -> None:
    did: list[str] = []

    def step(name: str, *, fails: bool = False) -> Step:
        def do() -> None:
            if fails:
                raise Refused("no room")
            did.append(name)

        def undo() -> None:
            if not back and name == "b":
                raise OSError(5, "no")
            did.append(f"un-{name}")

        return Step(do, undo, Place(-1, name, name))

    with pytest.raises(Refused if back else HalfDone) as caught:
        run_all([step("a"), step("b"), step("c", fails=True), step("d")])

    assert did == (["a", "b", "un-b", "un-a"] if back else ["a", "b", "un-a"])
    assert str(caught.value) == (
        "no room" if back else "no room; but ['b'] had been changed already, and are still"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
async def test_what_is_forbidden_is_an_error_result(workspace: Path) -> None:
    (workspace / "shut").mkdir(mode=0o500)

    result = await apply(workspace, marked("*** Add File: shut/a", "+x"))

    assert result.is_error
    assert "permission denied" in result.text


@given(
    st.lists(st.sampled_from("abb"), max_size=12),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=3),
    st.integers(0, 12),
    st.integers(0, 14),
)
def test_lines_are_found_where_looking_at_each_place_finds_them(
    lines: list[str], wanted: list[str], first: int, line: int
) -> None:
    first = min(first, len(lines))
    starts = [
        at
        for at in range(first, len(lines) - len(wanted) + 1)
        if lines[at : at + len(wanted)] == wanted
    ]
    places = Places(lines)

    assert places.after(wanted, first, 100) == starts
    closest = min(starts, key=lambda at: (abs(at - line), at), default=None)
    assert places.closest(wanted, first, line) == closest


def test_a_hunk_of_many_lines_finds_its_place_among_many_that_are_like_it() -> None:
    """Each of these took half a minute and more, with the lock of the interpreter held."""
    many = 300_000
    text = "x\n" * many + "y\n" + "x\n" * many
    long = marked("*** Update File: a", "@@", *[" x"] * 20_000, "-y", "+z")
    assert patched(text, parse(long)[0]) == text.replace("y", "z")

    numbered = [f"@@ -{at},2 +{at},2 @@\n x\n-x\n+w" for at in range(1, 4000, 2)]
    unified = "\n".join(["--- a/a", "+++ b/a", *numbered, ""])
    assert patched(text, parse(unified)[0]) == "x\nw\n" * 2000 + text[8000:]

    old, new = ([f"{sign}{n}" for n in range(40_000)] for sign in "ab")
    block = marked(
        "*** Update File: a", "@@", *(f"-{one}" for one in old), *(f"+{one}" for one in new)
    )
    assert patched("\n".join([*old, ""]), parse(block)[0]) == "\n".join([*new, ""])
