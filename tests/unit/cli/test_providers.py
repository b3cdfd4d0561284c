from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from steersman.main import main

BARE = {"STEERSMAN_URL": None, "STEERSMAN_TOKEN": None, "STEERSMAN_DATA_DIR": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("provider", "add", "x"), "--base-url"),
        (("provider", "add", "Not Good", "--base-url", "http://a"), "no name for a provider"),
        (("provider", "add", "anthropic"), "--model"),
        (("provider", "add", "x", "--base-url", "ftp://a", "--model", "m"), "base_url"),
        (("provider", "add", "x", "--base-url", "http://a", "--key-env", "UNSET"), "UNSET"),
    ],
)
def test_bad_usage_is_refused_before_anything_happens(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = CliRunner(env=BARE).invoke(main, [*words, "--data", str(tmp_path)])

    assert result.exit_code == 2, result.output
    assert said in result.output


@pytest.mark.parametrize("words", [["provider", "list"], ["model", "list"], ["chat", "hello"]])
def test_where_nothing_runs_the_way_to_start_it_is_told(tmp_path: Path, words: list[str]) -> None:
    result = CliRunner(env=BARE).invoke(main, [*words, "--data", str(tmp_path)])

    assert result.exit_code == 4
    assert "start it with `steersman up`" in result.output


@pytest.mark.parametrize("words", [["chat"], ["provider"], ["provider", "add"], ["model"]])
def test_the_help_has_examples(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])

    assert result.exit_code == 0
    assert "Examples:" in result.output
