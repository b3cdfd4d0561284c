"""`glob`: which paths it finds, in which order, and within which bounds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import steersman_plugin_files
from steersman_contracts.parts import JsonPart, TextPart
from steersman_contracts.testing import LocalContext, run_tool


async def glob(workspace: Path, pattern: str, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
    result = await run_tool(
        steersman_plugin_files,
        "glob",
        {"pattern": pattern, **arguments},
        LocalContext(workspace),
    )
    match result.parts():
        case (JsonPart(value=facts), TextPart(text=text)):
            return facts, text.split("\n")
        case other:
            raise AssertionError(other)


@pytest.fixture
def furnished(workspace: Path) -> Path:
    for age, name in enumerate(("old.py", "src/b.py", "src/a.py", "src/deep/new.ts")):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).touch()
        os.utime(workspace / name, (1_000, 1_000 + age))
    os.utime(workspace / "src" / "a.py", (1_000, 1_001))
    (workspace / ".git").mkdir()
    (workspace / ".git" / "x.py").touch()
    (workspace / "link").symlink_to("../outside")
    return workspace


async def test_the_newest_come_first(furnished: Path) -> None:
    facts, lines = await glob(furnished, "*.py")

    assert lines == ["src/a.py", "src/b.py", "old.py"]
    assert facts == {"matches": 3, "shown": 3, "complete": True}


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("src/**/*.{ts,py}", ".", ["src/deep/new.ts", "src/a.py", "src/b.py"]),
        ("*.py", "src", ["src/a.py", "src/b.py"]),
        ("deep/*", "src", ["src/deep/new.ts"]),
        ("canary.txt", ".", ["[no matches]"]),
    ],
)
async def test_a_pattern_is_about_the_path_below(
    furnished: Path, pattern: str, path: str, found: list[str]
) -> None:
    assert (await glob(furnished, pattern, path=path))[1] == found


async def test_more_than_the_limit_is_said(furnished: Path) -> None:
    facts, lines = await glob(furnished, "*.py", limit=2)

    assert lines == [
        "src/a.py",
        "src/b.py",
        "[cut: 1 more; narrow path or pattern, or raise limit]",
    ]
    assert facts == {"matches": 3, "shown": 2, "complete": False}


@pytest.mark.parametrize(
    ("pattern", "path", "said"),
    [
        ("*.{py", ".", "the pattern cannot be used: glob '*.{py' has a '{' without '}'"),
        ("*", "..", "contains '..'"),
        ("*", "link", "is a symbolic link"),
        ("*", "none", "does not exist"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_its_reason(
    furnished: Path, pattern: str, path: str, said: str
) -> None:
    result = await run_tool(
        steersman_plugin_files,
        "glob",
        {"pattern": pattern, "path": path},
        LocalContext(furnished),
    )

    assert result.is_error
    assert said in result.text
