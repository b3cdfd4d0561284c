from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

import steersman_plugin_files
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.sandbox import Limits, Owner, Sandbox, SandboxMissing
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_files.path_pattern import PathPattern


async def search(
    workspace: Path, pattern: str, *, timeout_s: float = 60.0, **arguments: Any
) -> ToolResult:
    return await run_tool(
        steersman_plugin_files,
        "search_files",
        {"pattern": pattern, **arguments},
        LocalContext(workspace, timeout_s=timeout_s),
    )


def found(result: ToolResult) -> tuple[dict[str, Any], list[str]]:
    match result.parts():
        case (JsonPart(value=facts), TextPart(text=text)):
            return facts, text.split("\n")
        case other:
            raise AssertionError(other)


def furnish(root: Path) -> None:
    (root / "src" / "deep").mkdir(parents=True)
    (root / "src" / "a.py").write_text("import os\nos.getcwd()\n")
    (root / "src" / "deep" / "b.ts").write_text("\ufeffimport OS\r\n")
    (root / "c.txt").write_text("no imports\nos")
    (root / "binary").write_bytes(b"import os\0")
    (root / "latin").write_bytes(b"import os caf\xe9\n")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("import os\n")
    (root / "link").symlink_to("../outside/canary.txt")
    os.mkfifo(root / "pipe")


async def test_matching_lines_come_with_path_and_number(workspace: Path) -> None:
    furnish(workspace)

    facts, lines = found(await search(workspace, r"^import \w+"))

    assert lines == [
        "latin:1: import os caf\ufffd",
        "src/a.py:1: import os",
        "src/deep/b.ts:1: import OS",
    ]
    assert facts == {"matches": 3, "matching_files": 3, "files_searched": 5, "complete": True}


async def test_a_search_can_be_narrowed(workspace: Path) -> None:
    furnish(workspace)

    _, by_path = found(await search(workspace, "os", path="src"))
    _, by_file = found(await search(workspace, "os", path="src/a.py"))
    _, by_name = found(await search(workspace, "os", glob="*.{ts,txt}"))
    _, by_case = found(await search(workspace, "os", glob="*.{ts,txt}", ignore_case=True))

    assert by_path == by_file == ["src/a.py:1: import os", "src/a.py:2: os.getcwd()"]
    assert by_name == ["c.txt:2: os"]
    assert by_case == ["c.txt:2: os", "src/deep/b.ts:1: import OS"]


async def test_nothing_found_is_said(workspace: Path) -> None:
    furnish(workspace)

    facts, lines = found(await search(workspace, "absent"))

    assert lines == ["[no matches]"]
    assert facts["complete"]


async def test_more_than_the_limit_is_said(workspace: Path) -> None:
    (workspace / "file").write_text("x\n" * 10)

    facts, lines = found(await search(workspace, "x", limit=9))
    exact, _ = found(await search(workspace, "x", limit=10))

    assert facts["matches"] == 9
    assert not facts["complete"]
    assert lines[-1].startswith("[more than 9 matches; narrow path")
    assert exact["complete"]


async def test_the_result_is_bounded_and_says_how_much_is_cut(workspace: Path) -> None:
    (workspace / "file").write_text(("x" * 5_000 + "\n") * 1_000)

    facts, lines = found(await search(workspace, "x$", limit=1_000))

    assert len("\n".join(lines).encode()) < 64 * 1024 + 200
    assert lines[0] == f"file:1: [4600 characters] …{'x' * 400}"
    assert lines[-1].startswith(f"[cut: {1_000 - (len(lines) - 1)} more matches")
    assert not facts["complete"]


SLOW = r"(?:\w\w?){400}\d"


def much_to_search(workspace: Path) -> None:
    """Gigabytes, as far as a search can tell: one file under a thousand names."""
    first = workspace / "b"
    first.write_text("x" * 9_000_000 + "\n")
    for number in range(1_000):
        (workspace / f"c{number}").hardlink_to(first)


async def test_a_slow_search_is_stopped_and_the_event_loop_goes_on(workspace: Path) -> None:
    much_to_search(workspace)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    result = await search(workspace, SLOW, timeout_s=2.0)
    ticking.cancel()

    facts, lines = found(result)
    assert lines[-1].startswith("[stopped after 1 s; narrow path or glob, or simplify pattern]")
    assert not facts["complete"]
    assert ticks > 10


async def test_a_cancelled_search_ends_its_process(workspace: Path) -> None:
    much_to_search(workspace)
    before = set(children())
    searching = asyncio.create_task(search(workspace, SLOW))
    async with asyncio.timeout(30):
        while not set(children()) - before:  # until the process is there
            await asyncio.sleep(0)
            assert not searching.done()

        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching

    assert not set(children()) - before


def children() -> list[str]:
    found: list[str] = []
    for path in Path("/proc/self/task").glob("*/children"):
        found += path.read_text().split()
    return found


async def test_lines_around_a_match_are_shown(workspace: Path) -> None:
    (workspace / "a").write_text("1\n2\n3\n4\n5\n")

    facts, lines = found(await search(workspace, "3", context=1))

    assert lines == ["a-2- 2", "a:3: 3", "a-4- 4"]
    assert facts["matches"] == 1


async def test_plain_text_can_be_searched(workspace: Path) -> None:
    (workspace / "a").write_text("a.b(\naxb(\n")

    _, lines = found(await search(workspace, "a.b(", literal=True))

    assert lines == ["a:1: a.b("]


@pytest.mark.parametrize("repository", [True, False])
async def test_what_is_ignored_is_left_out_unless_asked_for(
    workspace: Path, repository: bool
) -> None:
    (workspace.parent / ".gitignore").write_text("*\n")
    (workspace.parent / ".git").mkdir()
    if repository:
        (workspace / ".git").mkdir()
        (workspace / ".gitignore").write_text("built/\n")
    for name in ("src/built/a", "src/b", ".hidden", ".git/config"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text("word\n")

    _, usual = found(await search(workspace, "word"))
    _, below = found(await search(workspace, "word", path="src"))
    _, everything = found(await search(workspace, "word", hidden=True))

    assert usual == (["src/b:1: word"] if repository else ["src/b:1: word", "src/built/a:1: word"])
    assert below == usual
    assert everything == [".hidden:1: word", "src/b:1: word", "src/built/a:1: word"]


async def test_a_link_is_never_followed(workspace: Path) -> None:
    (workspace / "link").symlink_to(workspace.parent / "outside")

    facts, _ = found(await search(workspace, "canary", hidden=True))
    named = await search(workspace, "canary", path="link/canary.txt")

    assert facts["matches"] == 0
    assert named.is_error
    assert "is a symbolic link" in named.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_what_commands_may_not_read_is_not_searched(workspace: Path) -> None:
    (workspace / "closed").write_text("word\n")
    (workspace / "closed").chmod(0o600)
    (workspace / "open").write_text("word\n")

    _, lines = found(await search(workspace, "word"))

    assert lines == ["open:1: word"]


class _None:
    isolates, network, limits = False, True, Limits()
    groups = None

    def wrap(
        self,
        argv: Sequence[str],
        *,
        workspace: Path,
        workdir: Path,
        owner: Owner,
        readable: Sequence[Path] = (),
    ) -> tuple[str, ...]:
        raise SandboxMissing("there is none")


class _Strict(LocalContext):
    sandbox: Sandbox = _None()


async def test_without_a_sandbox_that_is_required_nothing_is_searched(workspace: Path) -> None:
    result = await run_tool(
        steersman_plugin_files, "search_files", {"pattern": "x"}, _Strict(workspace)
    )

    assert (result.is_error, result.text) == (True, "the search cannot be done: there is none")


@pytest.mark.parametrize(
    "pattern", ["(", "[z-a]", "(?P<1>x)", "a{99999999999999999999}", "(?=a)", "a\0"]
)
async def test_a_bad_pattern_is_refused_with_its_reason(workspace: Path, pattern: str) -> None:
    result = await search(workspace, pattern)

    assert result.is_error
    assert result.text.startswith("the search cannot be done: ")


async def test_a_bad_glob_is_refused_with_its_reason(workspace: Path) -> None:
    result = await search(workspace, "x", glob="*.{ts")

    assert result.is_error
    assert "unclosed alternate group" in result.text


def test_a_search_runs_under_uvloop(workspace: Path) -> None:
    furnish(workspace)

    facts, _ = found(uvloop.run(search(workspace, "import")))

    assert facts["matches"] == 4


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("*.py", "a.py", True),
        ("*.py", "src/deep/a.py", True),
        ("*.py", "a.pyc", False),
        ("a?.py", "ab.py", True),
        ("a?.py", "a/.py", False),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/deep/a.py", False),
        ("src/**/*.py", "src/a.py", True),
        ("src/**/*.py", "src/x/y/a.py", True),
        ("src/**", "src/x/y/a.py", True),
        ("**/test/*.py", "test/a.py", True),
        ("./a.py", "a.py", True),
        ("*.{py,ts}", "x/a.ts", True),
        ("*.{py,ts}", "x/a.js", False),
        ("*.{p{y,yi},ts}", "a.pyi", True),
        ("[ab].py", "a.py", True),
        ("[!ab].py", "a.py", False),
        ("[!ab].py", "c.py", True),
        ("[]].py", "].py", True),
        ("a,b}.py", "a,b}.py", True),
        ("a[b.py", "a[b.py", True),
        ("a+(b).py", "a+(b).py", True),
        ("src/[!x]y", "src//y", False),
    ],
)
def test_a_glob_fits_the_paths_that_people_expect(glob: str, path: str, fits: bool) -> None:
    assert PathPattern(glob).fits(path) == fits


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*a" * 40 + "b", "a" * 255),
        ("**/" * 100 + "b", "a/" * 60),
        ("{*a,*a*}" * 40 + "b", "a" * 255),
        ("**a" * 40 + "b", "a/" * 60 + "a"),
    ],
)
def test_a_glob_that_could_match_in_many_ways_is_quick(glob: str, path: str) -> None:
    pattern = PathPattern(glob)

    started = time.process_time()

    assert not pattern.fits(path)
    assert pattern.fits(path + "b")
    assert time.process_time() - started < 5  # by trying all of them, longer than the world is old
