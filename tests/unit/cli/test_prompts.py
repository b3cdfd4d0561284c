"""`steersman prompt` and `steersman instructions`: what is refused, what is sent, what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from steersman.main import main
from steersman.prompts import changed, instruction_lines
from steersman_contracts.rest_prompts import InstructionsBody
from steersman_contracts.rpc.prompts import Prompt

BARE = {"STEERSMAN_URL": None, "STEERSMAN_TOKEN": None, "STEERSMAN_DATA_DIR": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prompt", "set"), "TEXT or --file"),
        (("prompt", "set", "a", "--file", "-"), "not both"),
        (("prompt", "set", "x" * 10_001), "text"),
        (("instructions", "set"), "TEXT, --file or --threshold"),
        (("instructions", "set", "--threshold", "101"), "101"),
        (("instructions", "set", "x" * 10_001), "text"),
    ],
)
def test_bad_usage_is_refused_before_anything_happens(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = CliRunner(env=BARE).invoke(main, [*words, "--data", str(tmp_path)])

    assert result.exit_code == 2, result.output
    assert said in result.output


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompt.md"
    file.write_bytes(b"\xff\xfe\x00")
    words = ["prompt", "set", "--file", str(file), "--data", str(tmp_path)]
    result = CliRunner(env=BARE).invoke(main, words)

    assert result.exit_code == 1, result.output
    assert "is not text" in result.output


@pytest.mark.parametrize(
    ("text", "threshold", "expected"),
    [
        ("new", None, InstructionsBody("new", 60)),
        (None, 40, InstructionsBody("old", 40)),
        (None, 0, InstructionsBody("old")),
        ("", None, InstructionsBody("", 60)),
    ],
)
def test_what_is_left_out_stays_as_it_is(
    text: str | None, threshold: int | None, expected: InstructionsBody
) -> None:
    assert changed(Prompt("old", 60), text, threshold) == expected


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (Prompt(), ["(none)", "(summaries: as the model says)"]),
        (Prompt("a\nb", 100), ["a\nb", "(summaries: never)"]),
        (Prompt("a\x1b[2J", 50), ["a�[2J", "(summaries: at 50 % of the model's window)"]),
    ],
)
def test_what_is_shown_is_harmless_to_a_terminal(found: Prompt, lines: list[str]) -> None:
    assert instruction_lines(found) == lines
