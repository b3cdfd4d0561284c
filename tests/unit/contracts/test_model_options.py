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
    read_options,
)
from steersman_contracts.option_rules import parse_settings


def test_what_is_allowed_is_read() -> None:
    settings = parse_settings(
        "openai-responses",
        {"temperature": 0.5, "prices": {"input": 3_000_000}, "options": {"store": False}},
    )

    assert settings == ModelSettings(
        temperature=0.5, prices=Prices(input=3_000_000), options={"store": False}
    )
    assert read_options("openai-responses", settings.options) == OpenAIOptions(store=False)


HARM = {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}


@pytest.mark.parametrize(
    ("kind", "settings", "field", "words"),
    [
        ("anthropic", {"temprature": 1}, "temprature", "no 'temprature'"),
        ("anthropic", {"temperature": 3}, "temperature", "<= 2.0"),
        ("anthropic", {"reasoning_effort": "huge"}, "reasoning_effort", "huge"),
        (
            "anthropic",
            {"reasoning_effort": "xhigh", "max_reasoning_effort": "medium"},
            "reasoning_effort",
            "xhigh is above the limit medium",
        ),
        ("anthropic", {"prices": {"inputs": 1}}, "prices.inputs", "no 'inputs'"),
        ("anthropic", {"prices": {"input": -1}}, "prices.input", ">= 0"),
        (
            "anthropic",
            {"prices": {"tiers": [{"above": 1, "input": 1, "output": 1, "x": 1}]}},
            "prices.tiers[0].x",
            "no 'x'",
        ),
        ("google-vertex", {"options": {"store": True}}, "options.store", "the Gemini API has"),
        ("google", {"options": {"storage": 1}}, "options.storage", "no 'storage'"),
        ("anthropic", {"options": {"thread": {}}}, "options.thread", "the history is kept"),
        ("openai-responses", {"options": {"n": 2}}, "options.n", "one answer"),
        (
            "openai-responses",
            {"options": {"truncation": "auto"}},
            "options.truncation",
            "summaries keep it short",
        ),
        ("openai-chat", {"options": {"truncation": "auto"}}, "options.truncation", "there is no"),
        (
            "openai-responses",
            {"options": {"use_responses_api": False, "external_web_access": False}},
            "options.external_web_access",
            "use_responses_api: true",
        ),
        (
            "openai-responses",
            {"options": {"use_responses_api": False, "service_tier": "ultrafast"}},
            "options.service_tier",
            "use_responses_api: true",
        ),
        ("openai-responses", {"options": {"seed": 0}}, "options.seed", "use_responses_api: false"),
        ("anthropic-vertex", {"options": {"speed": "fast"}}, "options.speed", "clouds"),
        (
            "anthropic",
            {"options": {"thinking": "between_tools", "thinking_display": "omitted"}},
            "options.thinking_display",
            "between_tools",
        ),
        (
            "anthropic",
            {"options": {"user_location": {"town": "Bern"}}},
            "options.user_location.town",
            "no 'town'",
        ),
        ("openai-responses", {"options": {"store": "yes"}}, "options.store", "bool"),
        ("demo", {"options": {"store": True}}, "options.store", "no 'store'"),
        (
            "anthropic",
            {"options": {"allowed_domains": ["a.org"], "blocked_domains": ["b.org"]}},
            "options.blocked_domains",
            "not both",
        ),
        (
            "anthropic",
            {"options": {"thinking_budget_tokens": 2048}},
            "options.thinking_budget_tokens",
            "needs thinking: enabled",
        ),
        (
            "anthropic",
            {"options": {"thinking": "disabled", "thinking_display": "omitted"}},
            "options.thinking_display",
            "nothing to display",
        ),
        ("anthropic", {"options": {"beta_headers": ["a,b"]}}, "options.beta_headers[0]", "regex"),
        (
            "anthropic-bedrock",
            {"options": {"web_search_enabled": True}},
            "options.web_search_enabled",
            "Bedrock",
        ),
        (
            "google",
            {"options": {"thinking_budget": 0, "thinking_level": "low"}},
            "options.thinking_level",
            "not both",
        ),
        (
            "google",
            {"options": {"safety_settings": [HARM, HARM | {"typo": 1}]}},
            "options.safety_settings[1].typo",
            "no 'typo'",
        ),
        (
            "google",
            {"options": {"safety_settings": [{"category": "harassment", "threshold": "OFF"}]}},
            "options.safety_settings[0].category",
            "regex",
        ),
        (
            "google",
            {"options": {"safety_settings": [HARM | {"method": "SEVERITY"}]}},
            "options.safety_settings[0].method",
            "Vertex",
        ),
        (
            "openai-chat",
            {"options": {"provider": {"max_price": {"prompts": 1}}}},
            "options.provider.max_price.prompts",
            "no 'prompts'",
        ),
        (
            "openai-chat",
            {"options": {"provider": {"sort": "cheapest"}}},
            "options.provider.sort",
            "cheapest",
        ),
        (
            "openai-chat",
            {"options": {"reasoning": {"effort": "low", "max_tokens": 5}}},
            "options.reasoning.max_tokens",
            "not both",
        ),
        (
            "openai-chat",
            {"options": {"reasoning": {}, "extra_body": {"reasoning": {}}}},
            "options.extra_body.reasoning",
            "not both",
        ),
        ("openai-chat", {"options": {"logit_bias": {"7": 101}}}, "options.logit_bias[...]", "100"),
        (
            "openai-responses",
            {"options": {"use_responses_api": False, "prediction": {"type": "x", "content": ""}}},
            "options.prediction.type",
            "'x'",
        ),
        (
            "openai-responses",
            {
                "options": {
                    "use_responses_api": False,
                    "prediction": {"type": "content", "content": [{"type": "text", "text": ""}]}
                    | {"weight": 1},
                }
            },
            "options.prediction.weight",
            "no 'weight'",
        ),
        (
            "openai-responses",
            {"options": {"logprobs": False, "top_logprobs": 2}},
            "options.top_logprobs",
            "logprobs: true",
        ),
        (
            "openai-responses",
            {"options": {"use_responses_api": False, "computer_use": "native"}},
            "options.computer_use",
            "use_responses_api: true",
        ),
    ],
)
def test_what_is_wrong_is_named(
    kind: str, settings: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        parse_settings(kind, settings)

    assert refused.value.details["field"] == f"settings.{field}"


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
