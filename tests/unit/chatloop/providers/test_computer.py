"""Which models are offered the computer tool in their provider's own form."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_chatloop.providers import (
    anthropic_request,
    google_request,
    openai_responses_request,
)
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.toolbox import before_on_screen
from steersman_contracts.ids import ChatId, ModelName
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

COMPUTER = ToolSpec("computer", "See and use a desktop.", {"type": "object"}, "computer")
OTHERS = ToolSpec("computer", "Another one.", {"type": "object"}, "mcp")


def request(
    kind: ProviderType, model: str, *, tool: ToolSpec = COMPUTER, **changes: Any
) -> StepRequest:
    settings = ModelSettings(options=changes.pop("options", {}))
    access = ModelAccess(ModelName("p/m"), kind, "p", model, settings=settings, **changes)
    return StepRequest(ChatId("c"), access, "", (), (tool,))


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("claude-opus-5-5", "computer_toolset_20260801"),
        ("claude-opus-4-8", "computer_toolset_20260801"),
        ("claude-opus-4-7", "computer_20251124"),
        ("claude-sonnet-4-6", "computer_20251124"),
        ("claude-opus-4-5-20251101", "computer_20251124"),
        ("claude-sonnet-4-5-20250929", "computer_20250124"),
        ("claude-3-7-sonnet-latest", "computer_20250124"),
        ("claude-3-5-sonnet-20241022", "computer_20241022"),
        ("claude-3-opus-20240229", None),
        ("something-else", None),
    ],
)
def test_anthropics_forms_by_model(model: str, form: str | None) -> None:
    assert anthropic_request.computer_form(request("anthropic", model)) == form


def test_only_anthropic_itself_unless_an_administrator_says_so() -> None:
    def form(**changes: Any) -> str | None:
        return anthropic_request.computer_form(request("anthropic", "claude-opus-5-5", **changes))

    gateway = "https://gateway.example/v1"
    assert form(base_url=gateway) is None
    assert form(base_url=gateway, options={"computer_use": "native"}) is not None
    assert form(options={"computer_use": "function"}) is None
    assert form(tool=OTHERS, options={"computer_use": "native"}) is None


@pytest.mark.parametrize(
    ("model", "native"),
    [
        ("gpt-5.4", True),
        ("gpt-5.6-mini", True),
        ("gpt-6", True),
        ("gpt-5.4-nano", False),
        ("gpt-5.3", False),
        ("gpt-4.1", False),
        ("o3", False),
    ],
)
def test_openais_form_by_model(model: str, native: bool) -> None:  # noqa: FBT001, RUF100
    assert openai_responses_request.has_computer(request("openai-responses", model)) == native


@pytest.mark.parametrize(
    ("model", "environment"),
    [
        ("gemini-3.5-flash", "desktop"),
        ("models/gemini-4-flash", "desktop"),
        ("gemini-3-flash-preview", "browser"),
        ("gemini-2.5-computer-use-preview-10-2025", "browser"),
        ("gemini-3.5-flash-lite", None),
        ("gemini-2.5-flash", None),
        ("gemini-3-pro", None),
    ],
)
def test_geminis_form_by_model(model: str, environment: str | None) -> None:
    assert google_request.computer_environment(request("google", model)) == environment


def test_a_call_on_the_screen_waits_for_those_before_it_on_the_screen() -> None:
    calls = [ToolCallPart(str(n), tool, {}) for n, tool in enumerate(("computer", "x", "computer"))]

    assert before_on_screen(calls, calls[2]) == ["0"]
    assert list(before_on_screen(calls, calls[1])) == []
    assert before_on_screen(calls, calls[0]) == []
