"""Everything but streams: model listings, token counts, and unknown paths."""

from __future__ import annotations

from typing import Final

import msgspec

from fakes import anthropic, clouds, gemini, openai
from fakes.http import HttpConnection
from fakes.wire import HttpRequest, Refused, encode

_JSON: Final = {"content-type": "application/json"}
_CONTEXT: Final = 200_000
_OUTPUT: Final = 32_000


def handle(connection: HttpConnection, request: HttpRequest, models: list[str]) -> None:
    """Answer what is not a stream, in the format that the path and the headers speak."""
    if request.path in ("/foundation-models", "/inference-profiles"):
        refusal = _BEDROCK.refusal
        answer = clouds.aws_models
    elif request.path.startswith("/v1beta1/publishers/"):
        refusal = _GEMINI.refusal
        answer = clouds.google_models
    elif request.path.startswith("/v1beta/"):
        refusal = _GEMINI.refusal
        answer = _gemini
    elif "anthropic-version" in request.headers or request.path.startswith("/v1/messages"):
        refusal = _ANTHROPIC.refusal
        answer = _anthropic
    else:
        refusal = _OPENAI.refusal
        answer = _openai
    try:
        body = answer(request, models)
    except Refused as refused:
        connection.respond(refused.status, _JSON, refusal(refused, "req_fake"))
        return
    connection.respond(200, _JSON, encode(body))


class _OpenAi:
    @staticmethod
    def refusal(refused: Refused, _: str) -> bytes:
        return openai.openai_refusal(refused)


_ANTHROPIC: Final = anthropic.Anthropic()
_BEDROCK: Final = clouds.Bedrock()
_GEMINI: Final = gemini.Gemini()
_OPENAI: Final = _OpenAi()


def _unknown(request: HttpRequest) -> Refused:
    return Refused(f"Not found: {request.method} {request.path}", status=404)


def _anthropic(request: HttpRequest, models: list[str]) -> object:
    anthropic.authorise(request)
    if request.method == "POST" and request.path == "/v1/messages/count_tokens":
        return {"input_tokens": max(1, len(request.raw) // 4)}
    if request.method != "GET" or not request.path.startswith("/v1/models"):
        raise _unknown(request)
    found = [_anthropic_model(name) for name in models]
    if request.path == "/v1/models":
        return {
            "data": found,
            "has_more": False,
            "first_id": models[0] if models else None,
            "last_id": models[-1] if models else None,
        }
    return found[_index(request, models, "/v1/models/")]


def _index(request: HttpRequest, models: list[str], prefix: str) -> int:
    name = request.path.removeprefix(prefix)
    if name not in models:
        raise Refused(f"model: {name}", status=404, field="model")
    return models.index(name)


def _anthropic_model(name: str) -> object:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": _CONTEXT,
        "max_tokens": _OUTPUT,
        "capabilities": None,
    }


def _openai(request: HttpRequest, models: list[str]) -> object:
    openai.authorise(request)
    if request.method == "POST" and request.path == "/v1/responses/input_tokens":
        return {"object": "response.input_tokens", "input_tokens": max(1, len(request.raw) // 4)}
    if request.method != "GET" or not request.path.startswith("/v1/models"):
        raise _unknown(request)
    found: list[object] = [
        {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "fake"}
        for name in models
    ]
    if request.path == "/v1/models":
        return {"object": "list", "data": found}
    return found[_index(request, models, "/v1/models/")]


class _CountTokens(msgspec.Struct):
    contents: list[object] = []


def _gemini(request: HttpRequest, models: list[str]) -> object:
    gemini.authorise(request)
    if request.method == "POST" and request.path.endswith(":countTokens"):
        msgspec.json.decode(request.raw, type=_CountTokens)
        return {"totalTokens": max(1, len(request.raw) // 4)}
    if request.method != "GET" or not request.path.startswith("/v1beta/models"):
        raise _unknown(request)
    found: list[object] = [
        {
            "name": f"models/{name}",
            "version": "001",
            "displayName": name,
            "inputTokenLimit": _CONTEXT,
            "outputTokenLimit": _OUTPUT,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
            "thinking": True,
        }
        for name in models
    ]
    if request.path == "/v1beta/models":
        return {"models": found}
    return found[_index(request, models, "/v1beta/models/")]
