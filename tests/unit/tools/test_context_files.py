"""What a workspace says to models is read whole or not at all, wherever its paths try to lead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from steersman_contracts.rpc.context import MAX_FILE_BYTES
from steersman_contracts.skills import front_matter, skill_summary, without_front_matter
from steersman_contracts.terms import MAX_SKILLS, SkillSummary
from steersman_tools.context_files import read_context, read_skill

SKILL = "---\nname: tides\ndescription: How to read a tide table.\n---\n\n# Tides\n"


def write(root: Path, path: str, text: str | bytes) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text if isinstance(text, bytes) else text.encode())
    return target


def test_a_workspace_without_anything_says_nothing(tmp_path: Path) -> None:
    found = read_context(tmp_path)

    assert (found.attached, found.files, found.skills) == (True, (), ())


def test_the_home_comes_before_the_working_directory(tmp_path: Path) -> None:
    write(tmp_path, "AGENTS.md", "home")
    write(tmp_path, "src/AGENTS.md", "src")

    found = read_context(tmp_path, ("src",))

    assert [(file.path, file.text) for file in found.files] == [
        ("AGENTS.md", "home"),
        ("src/AGENTS.md", "src"),
    ]


def test_a_huge_file_is_cut_between_characters(tmp_path: Path) -> None:
    write(tmp_path, "AGENTS.md", "a" + "é" * MAX_FILE_BYTES)

    (file,) = read_context(tmp_path).files

    assert (file.truncated, file.size) == (True, 1 + 2 * MAX_FILE_BYTES)
    assert file.text == "a" + "é" * ((MAX_FILE_BYTES - 1) // 2)


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, "AGENTS.md", b"ok \xff\xfe")

    assert read_context(tmp_path).files[0].text == "ok \ufffd\ufffd"


@pytest.mark.parametrize("what", ["file", "folder", "parent", "fifo", "directory"])
def test_links_and_what_is_no_file_are_left_alone(tmp_path: Path, what: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    write(outside, "AGENTS.md", "secret")
    write(outside, "skills/tides/SKILL.md", SKILL)
    root.mkdir()
    match what:
        case "file":
            (root / "AGENTS.md").symlink_to(outside / "AGENTS.md")
        case "folder":
            (root / "src").symlink_to(outside)
        case "parent":
            (root / ".agents").symlink_to(outside)
        case "fifo":
            os.mkfifo(root / "AGENTS.md")
        case _:
            (root / "AGENTS.md").mkdir()

    found = read_context(root, ("src",))

    assert (found.files, found.skills) == ((), ())
    assert "no skill" in read_skill(root, "tides", "SKILL.md").problem


def test_skills_are_listed_by_name_with_what_they_are_for(tmp_path: Path) -> None:
    write(tmp_path, ".agents/skills/tides/SKILL.md", SKILL)
    write(tmp_path, ".agents/skills/charts/SKILL.md", SKILL.replace("tide table", "chart"))
    write(tmp_path, ".agents/skills/bare/SKILL.md", "no front matter")
    write(tmp_path, ".agents/skills/Bad Name/SKILL.md", SKILL)
    write(tmp_path, ".agents/skills/note.txt", "x")

    assert read_context(tmp_path).skills == (
        SkillSummary("charts", "How to read a chart."),
        SkillSummary("tides", "How to read a tide table."),
    )


def test_no_more_skills_than_fit_a_prompt(tmp_path: Path) -> None:
    for number in range(MAX_SKILLS + 5):
        write(tmp_path, f".agents/skills/s{number:03}/SKILL.md", SKILL)

    assert len(read_context(tmp_path).skills) == MAX_SKILLS


def test_a_skill_is_read_with_the_names_of_its_files(tmp_path: Path) -> None:
    write(tmp_path, ".agents/skills/tides/SKILL.md", SKILL)
    write(tmp_path, ".agents/skills/tides/tables/2026.csv", "a,b")
    (tmp_path / ".agents/skills/tides/link").symlink_to("/etc/passwd")

    whole = read_skill(tmp_path, "tides", "SKILL.md")

    assert (whole.text, whole.files) == (SKILL, ("tables/2026.csv",))
    assert read_skill(tmp_path, "tides", "tables/2026.csv").text == "a,b"


@pytest.mark.parametrize("path", ["../../AGENTS.md", "/etc/passwd", "link", "a\0b", "", "x/" * 40])
def test_a_skill_ends_at_its_directory(tmp_path: Path, path: str) -> None:
    write(tmp_path, "AGENTS.md", "home")
    write(tmp_path, ".agents/skills/tides/SKILL.md", SKILL)
    (tmp_path / ".agents/skills/tides/link").symlink_to("/etc/passwd")

    found = read_skill(tmp_path, "tides", path)

    assert found.problem
    assert not found.text


@pytest.mark.parametrize(
    ("head", "description"),
    [
        ("description: plain # and a comment", "plain"),
        ("description: 'it''s quoted'", "it's quoted"),
        ('description: "say \\"hi\\""', 'say "hi"'),
        ("description: >\n  folded\n  text", "folded text"),
        ("description: |\n  kept\n  lines", "kept\nlines"),
        ("other: x\ndescription: second", "second"),
        ("metadata:\n  description: nested", None),
    ],
)
def test_the_head_of_a_skill_is_understood(head: str, description: str | None) -> None:
    assert front_matter(f"---\n{head}\n---\nbody").get("description") == description


def test_a_head_that_never_ends_is_none() -> None:
    assert front_matter("---\ndescription: x\n") == {}
    assert skill_summary("---\ndescription: x\n", "tides") is None
    assert without_front_matter(SKILL) == "# Tides\n"
