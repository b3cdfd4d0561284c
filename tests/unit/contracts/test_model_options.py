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
        ("anthropic", {"prices": {"inputs": 1}}, "prices.inputs", "no 'inputs'"),
        ("anthropic", {"prices": {"input": -1}}, "prices.input", ">= 0"),
        (
            "anthropic",
            {"prices": {"tiers": [{"above": 1, "input": 1, "output": 1, "x": 1}]}},
            "prices.tiers[0].x",
            "no 'x'",
        ),
        ("google", {"options": {"store": True}}, "options.store", "no 'store'"),
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


def test_options_of_a_newer_version_are_read() -> None:
    assert read_options("google", {"of_a_newer_version": 1}) == GoogleOptions()
