from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from steersman.main import main
from steersman.models import changes
from steersman.remote import money

BARE = {"STEERSMAN_URL": None, "STEERSMAN_TOKEN": None, "STEERSMAN_DATA_DIR": None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("provider", "add", "x"), "--base-url"),
        (("provider", "add", "Not Good", "--base-url", "http://a"), "no name for a provider"),
        (("provider", "add", "anthropic"), "--model"),
        (("provider", "add", "x", "--base-url", "ftp://a", "--model", "m"), "base_url"),
        (("provider", "add", "x", "--base-url", "http://a", "--key-env", "UNSET"), "UNSET"),
        (("provider", "set", "x"), "nothing to change"),
        (("provider", "set", "x", "--header-env", "X-A=UNSET"), "UNSET"),
        (("provider", "set", "x", "--header-env", "X-A"), "NAME=VARIABLE"),
        (("model", "set", "x/y"), "nothing to change"),
        (("model", "set", "x/y", "--set", "temperature"), "KEY=VALUE"),
        (("model", "set", "x/y", "--options", "[]"), "no JSON object"),
        (("model", "set", "x/y", "--set", "context_limit=much"), "context_limit"),
        (("model", "add", "x/y", "--set", "prices=1", "--set", "prices.input=1"), "prices"),
        (("user", "add", ""), "name"),
        (("usage", "--by", "mood"), "mood"),
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


@pytest.mark.parametrize(
    "words",
    [
        ["chat"],
        ["provider"],
        ["provider", "add"],
        ["provider", "set"],
        ["model"],
        ["model", "set"],
        ["usage"],
        ["user"],
    ],
)
def test_the_help_has_examples(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])

    assert result.exit_code == 0
    assert "Examples:" in result.output


def test_what_is_set_becomes_fields_and_settings() -> None:
    pairs = (
        "context_limit=4096",
        "display_name=A model",
        "temperature=0.5",
        "top_p=null",
        "prices.input=3000000",
        "options.user=ann",
        "options.extra_body.seed=7",
        'settings.fallbacks=["demo/echo"]',
    )

    fields, settings = changes(pairs, '{"parallel_tool_calls": false}')

    assert fields == {"context_limit": 4096, "display_name": "A model"}
    assert settings == {
        "temperature": 0.5,
        "top_p": None,
        "prices": {"input": 3_000_000},
        "fallbacks": ["demo/echo"],
        "options": {"parallel_tool_calls": False, "user": "ann", "extra_body": {"seed": 7}},
    }


@pytest.mark.parametrize(
    ("micros", "said"),
    [(0, "0.00"), (1, "0.000001"), (4500, "0.0045"), (1_500_000, "1.50"), (12_000_000, "12.00")],
)
def test_money_has_the_digits_that_it_needs(micros: int, said: str) -> None:
    assert money(micros) == said
