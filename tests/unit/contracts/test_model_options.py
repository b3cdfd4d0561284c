"""Settings of models are checked when they are written, and read leniently afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.model_options import (
    EFFORTS,
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
        (
            "anthropic",
            {"reasoning_effort": "xhigh", "max_reasoning_effort": "medium"},
            "settings.reasoning_effort",
            "xhigh is above the limit medium",
        ),
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


BOUNDS: list[tuple[str, float, float, float]] = [
    # What is just outside is refused; the least and the most are taken.
    ("temperature", 0, 2, 0.01),
    ("top_p", 0, 1, 0.01),
    ("top_k", 1, 1_000_000, 1),
    ("presence_penalty", -2, 2, 0.01),
    ("frequency_penalty", -2, 2, 0.01),
    ("compaction_threshold", 0, 100, 1),
    ("fallback_after", 1, 25, 1),
]


@pytest.mark.parametrize(("name", "least", "most", "step"), BOUNDS)
def test_numbers_have_bounds(name: str, least: float, most: float, step: float) -> None:
    for value in (least, most):
        assert getattr(parse_settings("anthropic", {name: value}), name) == value
    for value in (least - step, most + step, "1", True):
        with pytest.raises(InvalidRequest, match=name):
            parse_settings("anthropic", {name: value})


def test_efforts_are_a_scale_and_the_default_keeps_to_the_limit() -> None:
    assert EFFORTS == ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    for low, default in enumerate(EFFORTS):
        for limit, most in enumerate(EFFORTS):
            settings = {"reasoning_effort": default, "max_reasoning_effort": most}
            if low <= limit:
                assert parse_settings("google", settings).max_reasoning_effort == most
            else:
                with pytest.raises(InvalidRequest):
                    parse_settings("google", settings)


def test_options_of_a_newer_version_are_read() -> None:
    assert read_options("google", {"of_a_newer_version": 1}) == GoogleOptions()
