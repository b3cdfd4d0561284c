"""Base URLs as people copy them, and where the request goes."""

from __future__ import annotations

import pytest

from steersman_chatloop.providers.addresses import anthropic_url, google_url, openai_address
from steersman_contracts.ids import ModelName
from steersman_contracts.rpc.worker import ModelAccess


def access(base_url: str | None, model: str = "m-1") -> ModelAccess:
    return ModelAccess(ModelName("p/m"), "openai-chat", "p", model, base_url=base_url)


@pytest.mark.parametrize(
    ("given", "url", "query"),
    [
        (None, "https://api.openai.com/v1", {}),
        ("https://api.openai.com", "https://api.openai.com/v1", {}),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1", {}),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1", {}),
        ("https://api.openai.com/v1/responses", "https://api.openai.com/v1", {}),
        ("http://localhost:11434", "http://localhost:11434/v1", {}),  # Ollama
        ("http://localhost:8000/v1", "http://localhost:8000/v1", {}),  # vLLM
        (" http://localhost:8080/ ", "http://localhost:8080/v1", {}),  # llama.cpp
        ("https://openrouter.ai", "https://openrouter.ai/api/v1", {}),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1", {}),
        ("https://api.groq.com", "https://api.groq.com/openai/v1", {}),
        ("https://api.x.ai/v1", "https://api.x.ai/v1", {}),
        ("https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1", {}),
        ("https://r.openai.azure.com/openai", "https://r.openai.azure.com/openai/v1", {}),
        (
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            "https://r.openai.azure.com/openai/deployments/d",
            {"api-version": "2024-10-21"},
        ),
        ("https://api.z.ai/api/paas/v4", "https://api.z.ai/api/paas/v4", {}),
        ("http://[broken", "http://[broken", {}),
    ],
)
def test_compatible_servers(given: str | None, url: str, query: dict[str, str]) -> None:
    assert openai_address(access(given)) == (url, query)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1", "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com"),
        ("https://proxy.example/anthropic/", "https://proxy.example/anthropic"),
    ],
)
def test_anthropic(given: str | None, url: str) -> None:
    assert anthropic_url(access(given)) == url


END = ":streamGenerateContent?alt=sse"
GEMINI = "https://generativelanguage.googleapis.com/v1beta"
PROJECT = "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu"


@pytest.mark.parametrize(
    ("given", "model", "url"),
    [
        (None, "gemini-3-pro", f"{GEMINI}/models/gemini-3-pro{END}"),
        (f"{GEMINI}/", "models/gemini-3-pro", f"{GEMINI}/models/gemini-3-pro{END}"),
        (None, "tunedModels/mine", f"{GEMINI}/tunedModels/mine{END}"),
        ("http://localhost:1/x", "a b?c", f"http://localhost:1/x/v1beta/models/a%20b%3Fc{END}"),
        (
            "https://aiplatform.googleapis.com",
            "gemini-3-pro",
            f"https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-3-pro{END}",
        ),
        (PROJECT, "gemini-3-pro", f"{PROJECT}/publishers/google/models/gemini-3-pro{END}"),
        (PROJECT, "endpoints/7", f"{PROJECT}/endpoints/7{END}"),
    ],
)
def test_google_and_vertex(given: str | None, model: str, url: str) -> None:
    assert google_url(access(given, model)) == url
