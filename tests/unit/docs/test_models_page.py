"""The page about models names every setting and option, each in the part of its wire format."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from steersman_contracts.model_options import (
    AnthropicOptions,
    CompatibleOptions,
    GoogleOptions,
    MaxPrice,
    ModelSettings,
    OpenAIOptions,
    RoutedReasoning,
    Routing,
    SafetySetting,
)
from steersman_contracts.refused_options import NOT_OPTIONS

PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
SECTIONS = dict(
    zip(
        re.findall(r"^## (.+)$", PAGE, re.M),
        re.split(r"^## .+$", PAGE, flags=re.M)[1:],
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("section", "kinds"),
    [
        ("Anthropic", [AnthropicOptions]),
        ("OpenAI", [OpenAIOptions]),
        ("Compatible servers", [CompatibleOptions, Routing, MaxPrice, RoutedReasoning]),
        ("Google", [GoogleOptions, SafetySetting]),
    ],
)
def test_every_option_is_named(section: str, kinds: list[type[msgspec.Struct]]) -> None:
    named = set(re.findall(r"`(\w+)[`:]", SECTIONS[section]))
    assert {name for kind in kinds for name in kind.__struct_fields__} - named == set()


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("Anthropic", "anthropic"),
        ("OpenAI", "openai-responses"),
        ("Compatible servers", "openai-chat"),
        ("Google", "google"),
    ],
)
def test_what_is_no_option_is_there_with_the_reason_that_a_refusal_gives(
    section: str, name: str
) -> None:
    table = SECTIONS[section].partition("| no option | why |\n|---|---|\n")[2]
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", table, re.M)
    assert dict(rows) == NOT_OPTIONS[name]


def test_every_setting_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## ")[0]))
    assert set(ModelSettings.__struct_fields__) - {"options"} <= named
