"""Settings of models are checked when they are written, and read leniently afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.model_options import (
    GoogleOptions,
    ModelSettings,
    OpenAIOptions,
    Prices,
    parse_settings,
    read_options,
)


def test_what_is_allowed_is_read() -> None:
    settings = parse_settings(
        "openai-responses",
        {"temperature": 0.5, "prices": {"input": 3_000_000}, "options": {"store": False}},
    )

    assert settings == ModelSettings(
        temperature=0.5, prices=Prices(input=3_000_000), options={"store": False}
    )
    assert read_options("openai-responses", settings.options) == OpenAIOptions(store=False)


@pytest.mark.parametrize(
    ("kind", "settings", "field", "words"),
    [
        ("anthropic", {"temprature": 1}, "settings.temprature", "no 'temprature'"),
        ("anthropic", {"temperature": 3}, "settings", "temperature"),
        ("anthropic", {"reasoning_effort": "huge"}, "settings", "reasoning_effort"),
        ("anthropic", {"prices": {"inputs": 1}}, "settings.prices.inputs", "no 'inputs'"),
        ("google", {"options": {"store": True}}, "settings.options.store", "no 'store'"),
        ("openai-responses", {"options": {"store": "yes"}}, "settings.options", "store"),
        ("demo", {"options": {"store": True}}, "settings.options.store", "no 'store'"),
        (
            "anthropic",
            {"options": {"allowed_domains": ["a.org"], "blocked_domains": ["b.org"]}},
            "settings.options",
            "not both",
        ),
        (
            "anthropic",
            {"options": {"thinking_budget_tokens": 2048}},
            "settings.options",
            "needs thinking: enabled",
        ),
        (
            "google",
            {"options": {"thinking_budget": 0, "thinking_level": "low"}},
            "settings.options",
            "not both",
        ),
    ],
)
def test_what_is_wrong_is_named(
    kind: str, settings: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        parse_settings(kind, settings)

    assert refused.value.details["field"] == field


def test_options_of_a_newer_version_are_read() -> None:
    assert read_options("google", {"of_a_newer_version": 1}) == GoogleOptions()
