"""A new plugin works before a line of it was changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from steersman.main import main
from steersman.plugin_kit import write_kit


def test_the_tests_of_a_new_plugin_pass_at_once(tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["plugins", "new", "word-count", "--into", str(tmp_path)])
    assert made.exit_code == 0, made.output
    folder = tmp_path / "steersman-plugin-word-count"

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        # A stranger has nothing but pytest; ours takes seconds to import.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout
    assert "STEERSMAN_PLUGIN_WORD_COUNT_GREETING" in (folder / "README.md").read_text()


def test_a_new_plugin_passes_the_linter(tmp_path: Path) -> None:
    folder = write_kit("word-count", tmp_path)

    ran = subprocess.run(
        [Path(sys.executable).with_name("ruff"), "check", "--no-cache", "--select", "E,F,I,UP,B"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", ["", "Word", "../up", "a b", "-x", "a--b", "x" * 41, "7up"])
def test_a_name_that_makes_no_package_is_refused(name: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["plugins", "new", "--into", str(tmp_path), "--", name])

    assert refused.exit_code == 2
    assert "no name for a plugin" in refused.output
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    write_kit("twice", tmp_path)

    refused = CliRunner().invoke(main, ["plugins", "new", "twice", "--into", str(tmp_path)])

    assert refused.exit_code == 2
    assert "exists already" in refused.output
