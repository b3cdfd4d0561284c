"""The classifier against what real providers send, built with the SDKs' own exceptions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import anthropic
import httpx2
import msgspec
import openai
import pytest
from google.genai import errors as google

from steersman_chatloop.providers.classify import (
    BROAD,
    BY_TEXT,
    EXACT,
    RULES,
    classify,
    failure,
    scrub,
)
from steersman_chatloop.providers.signals import ReportedFault, StreamFault, signal_of
from steersman_contracts.chats import ErrorKind
from steersman_contracts.ids import ModelName
from steersman_contracts.rpc.worker import ModelAccess

NOW: Final = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
REQUEST: Final = httpx2.Request("POST", "https://api.example/v1/x")
ACCESS: Final = ModelAccess(
    name=ModelName("openai/gpt"),
    provider_type="openai-chat",
    provider_id="openai",
    model_id="gpt",
    api_key="very-secret-key",
)


def response(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx2.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx2.Response(status, content=content, headers=headers, request=REQUEST)


def claude(
    status: int,
    kind: str,
    message: str = "m",
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Exception:
    body = {"type": "error", "error": {"type": kind, "message": message, **more}}
    return anthropic.APIStatusError(message, response=response(status, body, headers), body=body)


def gpt(
    status: int,
    code: str | int | None,
    kind: str | None = None,
    message: str = "m",
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Exception:
    error = {"message": message, "type": kind, "param": None, "code": code, **more}
    found = response(status, {"error": error}, headers)
    classes: dict[int, type[openai.APIStatusError]] = {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        403: openai.PermissionDeniedError,
        404: openai.NotFoundError,
        409: openai.ConflictError,
        422: openai.UnprocessableEntityError,
        429: openai.RateLimitError,
    }
    default = openai.InternalServerError if status >= 500 else openai.APIStatusError
    return classes.get(status, default)(message, response=found, body=error)


def in_stream(code: Any, kind: str | None = None, message: str = "m") -> Exception:
    return openai.APIError(message, REQUEST, body={"code": code, "type": kind, "message": message})


def gemini(status: int, word: str, message: str = "m", *details: dict[str, Any]) -> Exception:
    body = {"error": {"code": status, "message": message, "status": word, "details": list(details)}}
    kind = google.ServerError if status >= 500 else google.ClientError
    return kind(status, body, response(status, body))


def plain(status: int, text: str = "<html>bad gateway</html>") -> Exception:
    return openai.InternalServerError(text, response=response(status, text), body=text)


def reported(status: int, body: Any) -> Exception:
    found = response(status, body)
    return ReportedFault(body, status=None if status == 200 else status, response=found)


A_DAY: Final = "Too many tokens per day, please wait before trying again."


def because(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


RETRY_7S: Final = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
PER_DAY: Final = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
PER_MINUTE: Final = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel", "quotaValue": "5"}],
}
BAD_KEY: Final = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
REFUSED: Final = httpx2.ConnectError("[Errno 111] Connection refused")
UNKNOWN_HOST: Final = httpx2.ConnectError("[Errno -2] Name or service not known")
SPEND: Final = {"error_code": "enforced_spend_limit_reached"}

# What arrived, the kind, and whether trying again can help.
SAMPLES: Final[list[tuple[Exception, ErrorKind, bool]]] = [
    # Anthropic, over HTTP
    (claude(400, "invalid_request_error", "messages.0: bad"), "config", False),
    (
        claude(400, "invalid_request_error", "prompt is too long: 213 tokens > 200"),
        "context_overflow",
        False,
    ),
    (
        claude(400, "invalid_request_error", "Your credit balance is too low to access"),
        "usage_limit",
        False,
    ),
    (claude(401, "authentication_error", "invalid x-api-key"), "auth", False),
    (claude(402, "billing_error"), "usage_limit", False),
    (claude(403, "permission_error"), "auth", False),
    (claude(404, "not_found_error", "model: claude-9"), "config", False),
    (claude(408, "timeout_error"), "timeout", True),
    (claude(409, "conflict_error"), "generic", True),
    (claude(413, "request_too_large"), "context_overflow", False),
    (claude(429, "rate_limit_error"), "rate_limit", True),
    (claude(429, "rate_limit_error", details=SPEND), "usage_limit", False),
    (claude(500, "api_error"), "generic", True),
    (claude(503, "overloaded_error"), "overloaded", True),
    (claude(504, "timeout_error"), "timeout", True),
    (claude(529, "overloaded_error"), "overloaded", True),
    (claude(529, "unheard_of"), "overloaded", True),
    # Anthropic, inside a stream: the status is 200
    (claude(200, "overloaded_error", "Overloaded"), "overloaded", True),
    (claude(200, "rate_limit_error"), "rate_limit", True),
    (claude(200, "api_error", "Internal server error"), "generic", True),
    (claude(200, "timeout_error"), "timeout", True),
    (claude(200, "invalid_request_error", "cannot go on"), "config", False),
    (anthropic.APIConnectionError(request=REQUEST), "timeout", True),
    (anthropic.APITimeoutError(REQUEST), "timeout", True),
    # OpenAI
    (gpt(400, "context_length_exceeded", "invalid_request_error"), "context_overflow", False),
    (gpt(400, "invalid_value", "invalid_request_error"), "config", False),
    (
        gpt(400, None, "invalid_request_error", "Unsupported parameter: 'temperature'"),
        "config",
        False,
    ),
    (gpt(400, "invalid_prompt", "invalid_request_error"), "content_filter", False),
    (gpt(400, "content_policy_violation", "image_generation_user_error"), "content_filter", False),
    (gpt(401, "invalid_api_key", "invalid_request_error"), "auth", False),
    (gpt(403, "unsupported_country_region_territory", "request_forbidden"), "auth", False),
    (gpt(404, "model_not_found", "invalid_request_error"), "config", False),
    (gpt(409, None), "generic", True),
    (gpt(422, None), "config", False),
    (gpt(429, "insufficient_quota", "insufficient_quota"), "usage_limit", False),
    (gpt(429, "billing_hard_limit_reached"), "usage_limit", False),
    (
        reported(429, {"error": {"type": "ThrottlingException", "message": A_DAY}}),
        "usage_limit",
        False,
    ),
    (
        gpt(429, "rate_limit_exceeded", "tokens", "Rate limit reached for gpt in org"),
        "rate_limit",
        True,
    ),
    (gpt(500, "server_error", "server_error"), "generic", True),
    (gpt(503, "slow_down"), "overloaded", True),
    (in_stream("server_error"), "generic", True),
    (in_stream("rate_limit_exceeded"), "rate_limit", True),
    (in_stream(None, "server_error", "stream id 503 on 127.0.0.1:429 failed"), "generic", True),
    (StreamFault("context_length_exceeded"), "context_overflow", False),
    (StreamFault("bio_policy"), "content_filter", False),
    (openai.APIConnectionError(request=REQUEST), "timeout", True),
    (openai.APITimeoutError(REQUEST), "timeout", True),
    (because(openai.APIConnectionError(request=REQUEST), REFUSED), "timeout", True),
    (because(openai.APIConnectionError(request=REQUEST), UNKNOWN_HOST), "config", False),
    (in_stream("model_not_found"), "config", False),
    # Azure
    (
        gpt(400, "content_filter", None, innererror={"code": "ResponsibleAIPolicyViolation"}),
        "content_filter",
        False,
    ),
    (gpt(429, "insufficient_quota", headers={"retry-after": "20"}), "rate_limit", True),
    (gpt(404, "DeploymentNotFound"), "config", False),
    (
        gpt(400, None, None, "The response was filtered: content management policy"),
        "content_filter",
        False,
    ),
    # Compatible servers
    (gpt(403, 403, None, "Your input was flagged by the moderation of"), "content_filter", False),
    (in_stream(502, None, "Provider returned error"), "timeout", True),  # OpenRouter
    (in_stream(429), "rate_limit", True),
    (gpt(402, 402, None, "Insufficient credits"), "usage_limit", False),
    (gpt(403, 403, None, "Key limit exceeded (total limit)"), "usage_limit", False),
    (
        gpt(400, None, "BadRequestError", "This model's maximum context length is 8192 tokens."),
        "context_overflow",
        False,
    ),  # vLLM
    (
        gpt(400, 400, "exceed_context_size_error", "the request exceeds"),
        "context_overflow",
        False,
    ),  # llama.cpp
    (gpt(503, 503, "unavailable_error", "Loading model"), "overloaded", True),  # llama.cpp
    (
        gpt(404, None, "api_error", "model 'x' not found, try pulling it first"),
        "config",
        False,
    ),  # Ollama
    (
        claude(400, "invalid_request_error", "You have reached your specified API usage limits."),
        "usage_limit",
        False,
    ),
    (
        gpt(500, None, "api_error", "model requires more system memory (9 GiB) than is available"),
        "config",
        False,
    ),  # Ollama
    *(
        (error, "context_overflow", False)
        for error in (
            claude(
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, "
                "decrease input length or `max_tokens` and try again",
            ),
            gpt(  # vLLM
                400,
                400,
                "BadRequestError",
                "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum "
                "context length is 8192 tokens and your request has 500 input tokens",
            ),
            gpt(  # TGI
                422,
                None,
                "validation",
                "`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 3000 `inputs` tokens",
            ),
        )
    ),
    (
        gpt(413, "rate_limit_exceeded", "tokens", "Request too large on tokens per minute"),
        "context_overflow",
        False,
    ),  # Groq
    (
        gpt(
            429, "rate_limit_exceeded", "tokens", "Request too large for gpt: Limit 3, Requested 4"
        ),
        "context_overflow",
        False,
    ),
    (
        in_stream("rate_limit_exceeded", None, "Request too large for gpt: Limit 3, Requested 4"),
        "context_overflow",
        False,
    ),
    (gpt(400, "tool_use_failed", "invalid_request_error"), "generic", False),  # Groq
    (gpt(498, "flex_capacity", None), "generic", False),
    (gpt(402, None, "unknown_error", "Insufficient Balance"), "usage_limit", False),  # DeepSeek
    (gpt(403, None, None, "Your team has used all available credits"), "usage_limit", False),  # xAI
    (gpt(429, None, "exceeded_current_quota_error"), "usage_limit", False),  # Moonshot
    (gpt(429, None, "engine_overloaded_error"), "overloaded", True),  # Moonshot
    (StreamFault("insufficient_system_resource"), "overloaded", True),  # DeepSeek
    (plain(502), "timeout", True),
    (plain(413, "<html>Request Entity Too Large</html>"), "context_overflow", False),
    (plain(503, "upstream connect error: overloaded"), "overloaded", True),
    (plain(500, "oops"), "generic", True),
    (plain(405, "<html>Method Not Allowed</html>"), "config", False),
    # Google
    (gemini(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY), "auth", False),
    (
        gemini(400, "INVALID_ARGUMENT", "The input token count (1048577) exceeds the maximum"),
        "context_overflow",
        False,
    ),
    (
        gemini(400, "INVALID_ARGUMENT", "Function call is missing a thought_signature"),
        "config",
        False,
    ),
    (gemini(400, "FAILED_PRECONDITION", "User location is not supported"), "config", False),
    (gemini(401, "UNAUTHENTICATED"), "auth", False),
    (gemini(403, "PERMISSION_DENIED"), "auth", False),
    (gemini(404, "NOT_FOUND", "models/gemini-9 is not found"), "config", False),
    (
        gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", PER_MINUTE, RETRY_7S),
        "rate_limit",
        True,
    ),
    (
        gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", PER_DAY, RETRY_7S),
        "usage_limit",
        False,
    ),
    (gemini(500, "INTERNAL"), "generic", True),
    (gemini(503, "UNAVAILABLE", "The model is overloaded."), "overloaded", True),
    (gemini(504, "DEADLINE_EXCEEDED"), "timeout", True),
    (google.UnknownApiResponseError("not JSON"), "timeout", True),
    (StreamFault("malformed_function_call"), "generic", False),
    (StreamFault("content_filter", "prompt blocked: SAFETY"), "content_filter", False),
    (anthropic.CredentialsError("no credentials"), "auth", False),
    (StreamFault("timeout"), "timeout", True),
    (gpt(401, None), "auth", False),
    (plain(503, "no healthy upstream"), "timeout", True),
    (in_stream("not_found_error"), "config", False),
    # What is structured is believed, whatever the text says
    (
        gpt(400, "context_length_exceeded", None, "flagged as longer than allowed"),
        "context_overflow",
        False,
    ),
    (gpt(400, "invalid_api_key", None, "the maximum context length is 8"), "auth", False),
    (gpt(403, "permission_denied", None, "flagged for review"), "auth", False),
    (gpt(429, "rate_limit_exceeded", None, "see your spending limit"), "rate_limit", True),
    (gpt(500, "timeout", None, "the input is too long for the time"), "timeout", True),
    (gpt(400, "content_filter", None, "insufficient credits"), "content_filter", False),
    # The transport, and what a stream lacks
    (httpx2.ReadTimeout("slow"), "timeout", True),
    (httpx2.ConnectTimeout("slow"), "timeout", True),
    (httpx2.RemoteProtocolError("peer closed connection"), "timeout", True),
    (httpx2.ReadError("reset"), "timeout", True),
    (REFUSED, "timeout", True),
    (UNKNOWN_HOST, "config", False),
    (httpx2.UnsupportedProtocol("Request URL is missing a protocol"), "config", False),
    (httpx2.InvalidURL("Invalid port"), "config", False),
    (ConnectionResetError("reset by peer"), "timeout", True),
    (TimeoutError(), "timeout", True),
    (json.JSONDecodeError("bad", "{", 1), "timeout", True),
    (StreamFault("truncated"), "timeout", True),
    (StreamFault("stalled"), "timeout", True),
    (StreamFault("empty_answer"), "generic", False),
    (StreamFault("output_limit"), "config", False),
    (StreamFault("not_an_api"), "config", False),
    (StreamFault("malformed_event"), "timeout", True),
    # Read by ourselves, without an SDK
    (reported(200, {"error": {"type": "overloaded_error", "message": "m"}}), "overloaded", True),
    (reported(200, {"error": {"code": 503, "status": "UNAVAILABLE"}}), "overloaded", True),
    (reported(200, {"error": {"code": 502, "message": "Provider returned"}}), "timeout", True),
    (
        reported(200, {"error": {"code": 429, "metadata": {"raw": "slow down at :502"}}}),
        "rate_limit",
        True,
    ),
    (
        reported(200, {"error": {"message": "m", "type": "insufficient_quota"}}),
        "usage_limit",
        False,
    ),
    (reported(403, {"message": "no"}), "auth", False),
    (reported(500, {"message": "stream id 429 on 10.0.0.1:529"}), "generic", True),
    (reported(429, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}]), "rate_limit", True),
    (reported(400, {"error": {"status": "INVALID_ARGUMENT"}}), "config", False),
    (msgspec.DecodeError("trailing characters"), "generic", False),
    (ValueError("a mistake of ours at 10.0.0.1:503"), "generic", False),
]


def name(value: object) -> str | None:
    return f"{type(value).__name__}" if isinstance(value, Exception) else None


@pytest.mark.parametrize(("error", "kind", "retryable"), SAMPLES, ids=name)
def test_a_sample_is_classified(error: Exception, kind: ErrorKind, *, retryable: bool) -> None:
    found = classify(error, ACCESS, now=NOW).error
    assert (found.kind, found.retryable) == (kind, retryable)
    assert found.provider == "openai"
    assert found.message
    assert "{" not in found.message
    assert len(found.detail) <= 500


# No connection at all: what it means depends on whether this address has ever answered.
UNREACHED: Final[list[Exception]] = [
    because(openai.APIConnectionError(request=REQUEST), REFUSED),
    because(anthropic.APITimeoutError(REQUEST), httpx2.ConnectTimeout("no answer in 10 s")),
    httpx2.ConnectError("[Errno -3] Temporary failure in name resolution"),
    httpx2.ConnectError("[Errno 101] Network is unreachable"),
    because(httpx2.RemoteProtocolError("no status"), aiohttp.ServerDisconnectedError()),
]
NEVER: Final = msgspec.structs.replace(ACCESS, reached=False)


@pytest.mark.parametrize("error", UNREACHED, ids=str)
def test_an_address_that_has_never_answered_is_a_matter_of_configuration(error: Exception) -> None:
    down, wrong = classify(error, ACCESS).error, classify(error, NEVER).error

    assert (down.kind, down.retryable) == ("timeout", True)
    assert (wrong.kind, wrong.retryable) == ("config", False)
    assert "base URL" in wrong.message


@pytest.mark.parametrize(
    "error",
    [
        anthropic.APITimeoutError(REQUEST),
        because(openai.APIConnectionError(request=REQUEST), httpx2.ReadError("reset by peer")),
        StreamFault("stalled"),
        plain(503),
    ],
    ids=name,
)
def test_a_connection_that_was_made_and_failed_is_tried_again_all_the_same(
    error: Exception,
) -> None:
    found = classify(error, NEVER).error
    assert (found.kind, found.retryable) == ("timeout", True)


def test_there_are_enough_samples() -> None:
    assert len(SAMPLES) >= 80


WAITS: Final[list[tuple[Exception, float | None]]] = [
    (gpt(429, None, headers={"retry-after": "12"}), 12.0),
    (gpt(429, None, headers={"retry-after": "0.5"}), 0.5),
    (gpt(429, None, headers={"retry-after-ms": "250", "retry-after": "9"}), 0.25),
    (gpt(429, None, headers={"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT"}), 30.0),
    (gpt(429, None, headers={"retry-after": "Sun, 01 Nov 2026 11:00:00 GMT"}), 0.0),
    (gpt(429, None, headers={"retry-after": "soon"}), None),
    (gpt(429, None, headers={"retry-after": "nan"}), None),
    (gpt(429, None, headers={"retry-after": "-3"}), None),
    (gpt(429, None, headers={"retry-after": "1e300"}), 86_400.0),
    (gpt(429, None, headers={"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}), 86_400.0),
    (claude(529, "overloaded_error", headers={"retry-after": "4"}), 4.0),
    (gemini(429, "RESOURCE_EXHAUSTED", "m", RETRY_7S), 7.0),
    (gemini(429, "RESOURCE_EXHAUSTED", "m"), None),
    (httpx2.ReadTimeout("slow"), None),
]


@pytest.mark.parametrize(("error", "seconds"), WAITS)
def test_the_time_to_wait_is_read(error: Exception, seconds: float | None) -> None:
    assert classify(error, ACCESS, now=NOW).retry_after_s == seconds


def test_the_providers_own_advice_wins_but_not_about_money() -> None:
    no = {"x-should-retry": "false"}
    yes = {"x-should-retry": "true"}
    assert not classify(claude(529, "overloaded_error", headers=no), ACCESS).error.retryable
    assert classify(claude(400, "invalid_request_error", headers=yes), ACCESS).error.retryable
    assert not classify(gpt(429, "insufficient_quota", headers=yes), ACCESS).error.retryable


def test_the_status_is_the_providers_and_never_read_from_text() -> None:
    assert classify(gpt(503, None), ACCESS).error.status_code == 503
    assert classify(in_stream(502), ACCESS).error.status_code == 502
    assert classify(claude(200, "overloaded_error", "error 529"), ACCESS).error.status_code is None
    assert classify(ValueError("stream id 503"), ACCESS).error.status_code is None


def test_who_counts_the_answer_to_come_as_well_is_understood() -> None:
    together = gpt(400, None, None, "max_tokens: 9 exceeds the context length\nof 8")
    alone = gpt(400, None, None, "maximum context length is 8")
    assert "output tokens" in classify(together, ACCESS).error.message
    assert "output tokens" not in classify(alone, ACCESS).error.message
    for words in (
        "`max_tokens` must be less than or equal to `8192`, less than the `context_window`",
        "max_tokens is too large: 9. This model supports at most 8 completion tokens",
    ):
        assert classify(gpt(400, None, None, words), ACCESS).error.kind == "config"


def test_the_sentence_names_the_provider_and_no_internals() -> None:
    error = classify(claude(529, "overloaded_error", "at 10.1.2.3"), ACCESS).error
    assert error.message == "OpenAI is overloaded at the moment."
    assert error.detail == "overloaded_error: at 10.1.2.3"


def test_a_classified_failure_stays_as_it_is() -> None:
    first = failure("auth", ACCESS)
    assert classify(first, ACCESS) is first


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcdefghijklmnop. You can find",
        "key very-secret-key is wrong",
        "Authorization: Bearer abc.def-ghi",
        "GET https://user:hunter2hunter2@host/x",
        "https://x.example/v1?key=AIzaSyA12345678901234567890&alt=sse",
        "token=abcdefgh12345678",
        "AIzaSyA1234567890123456789012345678",
        "gsk_abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_secrets_never_reach_the_detail(text: str) -> None:
    secrets = ("abcdefghijkl", "very-secret", "abc.def", "hunter2", "AIzaSyA", "abcdefgh1234")
    clean = scrub(text, "very-secret-key")
    assert "***" in clean
    assert not any(secret in clean for secret in secrets)


def test_every_rule_has_a_sample() -> None:
    signals = [signal_of(error, now=NOW) for error, _, _ in SAMPLES]
    signals += [msgspec.structs.replace(signal_of(e), reached=False) for e in UNREACHED]
    used = [next(rule for rule in RULES if rule.matches(signal)) for signal in signals]
    assert [rule for rule in RULES if rule not in used] == []


def test_text_comes_after_everything_that_is_exact_and_never_alone() -> None:
    assert (*EXACT, *BY_TEXT, *BROAD) == RULES
    assert all(rule.text is None for rule in (*EXACT, *BROAD))
    assert all(rule.text and (rule.status or rule.codes or rule.names) for rule in BY_TEXT)
