"""From any exception of a model call to a classified error: a table, first match wins.

What is structured comes first: status, error type, code, headers, exception class. Text is looked
at only where these leave the reason open, and only together with one of them. Numbers are never
read out of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from steersman_chatloop.providers.base import ProviderFailed
from steersman_chatloop.providers.signals import Signal, signal_of
from steersman_contracts import cloud_keys
from steersman_contracts.chats import ChatError, ErrorKind
from steersman_contracts.rpc.worker import ModelAccess

MAX_DETAIL: Final = 500


class Rule(msgspec.Struct, frozen=True):
    """Matches when everything that it names holds."""

    kind: ErrorKind
    retryable: bool
    status: frozenset[int] | None = None
    codes: frozenset[str] | None = None
    """At least one of them was given."""
    names: frozenset[str] | None = None
    """At least one of them is a class of the exception or of its cause."""
    text: re.Pattern[str] | None = None
    waits: bool | None = None
    """Whether the provider said how long to wait."""
    reached: bool | None = None
    """Whether a call to this address has ever succeeded."""
    unless: re.Pattern[str] | None = None
    """Where the text says this, a later rule looks at it."""
    says: str | None = None
    """Instead of the kind's own sentence."""
    once: bool = False
    """Chance may have it otherwise: worth a second attempt, at once, but never a third one."""

    def matches(self, signal: Signal) -> bool:
        return (
            (self.status is None or signal.status in self.status)
            and (self.codes is None or not self.codes.isdisjoint(signal.codes))
            and (self.names is None or not self.names.isdisjoint(signal.names))
            and (self.text is None or self.text.search(signal.text) is not None)
            and (self.waits is None or self.waits is (signal.retry_after_s is not None))
            and (self.reached is None or self.reached is signal.reached)
            and (self.unless is None or self.unless.search(signal.text) is None)
        )


def _rule(
    kind: ErrorKind,
    *,
    retryable: bool = False,
    status: tuple[int, ...] = (),
    codes: str = "",
    names: str = "",
    text: str = "",
    waits: bool | None = None,
    reached: bool | None = None,
    unless: str = "",
    says: str | None = None,
    once: bool = False,
) -> Rule:
    return Rule(
        kind,
        retryable,
        frozenset(status) or None,
        frozenset(codes.split()) or None,
        frozenset(names.split()) or None,
        re.compile(text, re.IGNORECASE) if text else None,
        waits,
        reached,
        re.compile(unless, re.IGNORECASE) if unless else None,
        says,
        once,
    )


_ALONE_TOO_LARGE: Final = r"request too large"
LOST: Final = "The connection to {provider} was lost before the answer was complete."
UNREACHABLE: Final = "{provider} cannot be reached."
NO_HOST: Final = "{provider} cannot be reached: check its base URL."
NEVER_REACHED: Final = (
    "{provider} cannot be reached, and has answered no chat so far: "
    "check its base URL and the network."
)
UNKNOWN_MODEL: Final = "{provider} does not know this model, or its base URL is wrong."
NO_ROOM: Final = (
    "{provider} used up its limit of output tokens before it answered: raise it for this model."
)
TOO_MUCH_AT_ONCE: Final = (
    "One request needs more tokens than {provider} allows this account in a minute: "
    "the conversation is too long for that, or the model's limit of output tokens too high."
)
TOO_LONG_TOGETHER: Final = (
    "The conversation and the model's limit of output tokens are together too long for this model."
)
NO_API: Final = "{provider} did not answer as an API does: check its base URL."
GARBLED: Final = "{provider} sent an answer that cannot be used."
EMPTY: Final = "{provider} sent an empty answer."

# What names the failure itself: no text is looked at, whatever it says.
EXACT: Final = (
    # Ours: what a stream did not say.
    _rule("timeout", retryable=True, codes="truncated malformed_event", says=LOST),
    _rule("timeout", retryable=True, codes="stalled"),
    _rule("generic", once=True, codes="empty_answer", says=EMPTY),
    _rule("config", codes="output_limit", says=NO_ROOM),
    _rule("config", codes="not_an_api", says=NO_API),
    _rule(
        "generic",
        once=True,
        says=GARBLED,
        codes="malformed_call malformed_function_call malformed_response unexpected_tool_call "
        "missing_thought_signature too_many_tool_calls tool_use_failed",
    ),
    # Money. Azure and other hosts use the quota words for limits per minute, with a time to wait.
    _rule("rate_limit", retryable=True, codes="insufficient_quota", waits=True),
    _rule(
        "usage_limit",
        codes="insufficient_quota billing_error billing_hard_limit_reached billing_not_active "
        "contract_spend_limit_reached enforced_spend_limit_reached exceeded_current_quota_error "
        "quota_per_day quota_zero insufficient_credits payment_required "
        "servicequotaexceededexception",
    ),
    _rule("usage_limit", status=(402,)),
    # Policy.
    _rule(
        "content_filter",
        codes="content_filter content_policy_violation responsibleaipolicyviolation invalid_prompt "
        "bio_policy cyber_policy misalignment_policy_violation moderation_blocked refusal "
        "safety prohibited_content blocklist spii recitation model_armor image_safety sensitive",
    ),
    # Too long, at once or for a minute: Groq's limit of tokens per minute, met by one request.
    _rule("context_overflow", status=(413,), codes="rate_limit_exceeded", says=TOO_MUCH_AT_ONCE),
    _rule(
        "rate_limit",
        retryable=True,
        codes="rate_limit_exceeded ramp_limit_exceeded",
        unless=_ALONE_TOO_LARGE,
    ),
    _rule(
        "context_overflow",
        codes="context_length_exceeded model_context_window_exceeded exceed_context_size_error "
        "request_too_large string_above_max_length",
    ),
    _rule("context_overflow", status=(413,)),
    # Keys.
    _rule(
        "auth",
        codes="authentication_error invalid_api_key unauthenticated api_key_invalid "
        "permission_error permission_denied account_deactivated invalid_authentication_error "
        "accessdeniedexception unrecognizedclientexception expiredtokenexception "
        "invalidsignatureexception signaturedoesnotmatch missingauthenticationtokenexception",
    ),
    _rule("auth", names="CredentialsError DefaultCredentialsError RefreshError OAuthError"),
    _rule("auth", status=(401,)),
    # Busy.
    _rule(
        "overloaded",
        retryable=True,
        codes="overloaded_error overloaded engine_overloaded engine_overloaded_error slow_down "
        "unavailable unavailable_error server_overloaded model_overloaded capacity_exceeded "
        "compaction_unavailable insufficient_system_resource serviceunavailableexception "
        "modelnotreadyexception",
    ),
    _rule("overloaded", retryable=True, status=(529,)),
    # Time and the network.
    _rule(
        "timeout",
        retryable=True,
        codes="timeout_error deadline_exceeded timeout modeltimeoutexception",
    ),
    _rule("timeout", retryable=True, status=(408, 502, 504)),
    _rule(
        "config",
        names="InvalidURL UnsupportedProtocol LocalProtocolError UnicodeEncodeError",
        says=NO_HOST,
    ),
    _rule("config", codes="model_not_found", says=UNKNOWN_MODEL),
)

# What has many reasons, told apart by its text alone: a last resort, and only beside the structured
# fact that it refines.
BY_TEXT: Final = (
    _rule(
        "usage_limit",
        status=(400, 403, 429),
        text=r"credit balance is too low|insufficient (?:balance|credits|funds)|key limit exceeded"
        r"|used all available credits|spending limit|billing hard limit|api usage limits",
    ),
    _rule("usage_limit", status=(429,), text=r"too many tokens per day"),  # Bedrock
    _rule(
        "content_filter", status=(400, 403), text=r"flagged (?:by|as|for)|content management policy"
    ),
    _rule(  # Anthropic, vLLM and TGI count the limit of output tokens as well
        "context_overflow",
        status=(400, 422),
        text=r"\A(?s:(?=.*(?:context (?:limit|length)|inputs. tokens \+))"
        r"(?=.*(?:max_(?:completion_|new_|output_)?tokens|in the completion)))",
        says=TOO_LONG_TOGETHER,
    ),
    _rule(
        "context_overflow",
        status=(400, 422, 500),
        text=r"prompt is too long|maximum context length|context (?:length|window|size|limit)"
        r"|token count .{0,40}exceeds|too many (?:input )?tokens|input is too long"
        r"|maximum prompt length|exceeds the (?:limit|maximum) .{0,20}tokens",
    ),
    _rule(  # OpenAI, as an answer and inside a stream: no wait makes it fit
        "context_overflow",
        codes="rate_limit_exceeded",
        text=_ALONE_TOO_LARGE,
        says=TOO_MUCH_AT_ONCE,
    ),
    _rule("overloaded", retryable=True, status=(500, 503), text=r"overloaded|at capacity"),
    _rule("config", status=(500,), text=r"requires more (?:system )?memory"),  # Ollama
    _rule(
        "config",
        names="ConnectError gaierror",
        text=r"name or service not known|nodename nor servname|no address associated"
        r"|certificate verify failed|wrong version number",
        says=NO_HOST,
    ),
)

# What is left of a status, or of a code that says no more than one.
BROAD: Final = (
    _rule("auth", status=(403,)),
    _rule(
        "rate_limit",
        retryable=True,
        codes="rate_limit_error resource_exhausted throttlingexception too_many_requests "
        "rate_limit_reached_error",
    ),
    _rule("rate_limit", retryable=True, status=(429,)),
    _rule("timeout", retryable=True, status=(503,)),
    # An address that has never answered is more likely wrong than down: nobody is to wait for it.
    _rule(
        "config",
        names="ConnectError ClientConnectorError ConnectTimeout",
        reached=False,
        says=NEVER_REACHED,
    ),
    # Nor has one that hangs up at once, or speaks another protocol: TLS, or that of a database.
    _rule(
        "config", names="ServerDisconnectedError ClientResponseError", reached=False, says=NO_API
    ),
    _rule(
        "timeout",
        retryable=True,
        names="APITimeoutError TimeoutException ReadTimeout ConnectTimeout WriteTimeout "
        "PoolTimeout TimeoutError",
    ),
    _rule("timeout", retryable=True, names="ConnectError ClientConnectorError", says=UNREACHABLE),
    _rule(
        "timeout",
        retryable=True,
        names="APIConnectionError TransportError ProtocolError NetworkError StreamError "
        "ClientPayloadError ServerDisconnectedError ConnectionError JSONDecodeError "
        "UnknownApiResponseError DecodingError UnicodeDecodeError",
        says=LOST,
    ),
    _rule(
        "config",
        status=(404, 405, 410),
        says=UNKNOWN_MODEL,
    ),
    _rule("config", codes="not_found_error not_found", says=UNKNOWN_MODEL),
    _rule(
        "generic",
        retryable=True,
        codes="api_error server_error internal internal_error internal_server_error conflict_error "
        "internalserverexception modelstreamerrorexception aborted network_error",
    ),
    _rule("config", status=(400, 415, 422)),
    _rule("config", codes="invalid_request_error invalid_argument failed_precondition"),
    _rule("generic", retryable=True, status=(409, 425, *range(500, 600))),
    _rule("generic"),
)

RULES: Final = (*EXACT, *BY_TEXT, *BROAD)
_NEVER_RETRIED: Final[frozenset[ErrorKind]] = frozenset({"usage_limit", "context_overflow"})
"""Whatever the provider advises: the same request meets the same limit."""

SENTENCES: Final[dict[ErrorKind, str]] = {
    "overloaded": "{provider} is overloaded at the moment.",
    "rate_limit": "{provider} is limiting the requests of this account.",
    "usage_limit": "The credit or usage limit of the {provider} account is used up.",
    "auth": "{provider} did not accept the API key.",
    "config": "{provider} did not accept the request: check the model and its settings.",
    "context_overflow": "The conversation is too long for this model.",
    "timeout": "{provider} did not answer in time.",
    "content_filter": "{provider} declined to answer because of its content policy.",
    "provider_disabled": "{provider} is disabled.",
    "missing_key": "There is no API key for {provider}.",
    "generic": "{provider} failed to answer.",
}

_NAMES: Final = {
    "anthropic": "Anthropic",
    "openai": "OpenAI",
    "google": "Google",
    "gemini": "Google Gemini",
    "openrouter": "OpenRouter",
    "groq": "Groq",
    "xai": "xAI",
    "azure": "Azure",
    "ollama": "Ollama",
    "local": "The local model",
    "demo": "The demo provider",
}


def provider_name(provider_id: str) -> str:
    """How a provider is called in a sentence."""
    return _NAMES.get(provider_id) or provider_id or "The provider"


def classify(
    error: BaseException, access: ModelAccess, *, now: datetime | None = None
) -> ProviderFailed:
    """Say what went wrong, whether to try again, and when."""
    if isinstance(error, ProviderFailed):
        return error
    signal = msgspec.structs.replace(signal_of(error, now=now), reached=access.reached)
    rule = next(rule for rule in RULES if rule.matches(signal))
    retryable = rule.retryable if signal.should_retry is None else signal.should_retry
    return failure(
        rule.kind,
        access,
        retryable=retryable and rule.kind not in _NEVER_RETRIED,
        detail=_detail(signal),
        status_code=signal.status,
        retry_after_s=signal.retry_after_s,
        says=rule.says,
        once=rule.once,
    )


def failure(
    kind: ErrorKind,
    access: ModelAccess,
    *,
    retryable: bool = False,
    detail: str = "",
    status_code: int | None = None,
    retry_after_s: float | None = None,
    says: str | None = None,
    once: bool = False,
) -> ProviderFailed:
    """Build a classified failure with the sentence of its kind."""
    sentence = (says or SENTENCES[kind]).format(provider=provider_name(access.provider_id))
    error = ChatError(
        kind=kind,
        message=sentence[:1].upper() + sentence[1:],
        detail=scrub(detail, access.api_key)[:MAX_DETAIL],
        provider=access.provider_id,
        status_code=status_code,
        retryable=retryable,
    )
    return ProviderFailed(error, retry_after_s=retry_after_s, once=once)


def _detail(signal: Signal) -> str:
    head = " ".join(sorted(code for code in signal.codes if not code.isdigit()))
    return f"{head}: {signal.text}" if head else signal.text


_SECRETS: Final = re.compile(
    r"(?:\b(?:sk|pk|rk|gsk|xai|hf|key|org|proj)[-_][A-Za-z0-9_*.-]{8,}"  # keys with a prefix
    r"|\bAIza[\w-]{20,}|\bya29\.[\w.-]+|\bAKIA[A-Z0-9]{12,}"  # Google, AWS
    r"|(?<=bearer )\S+|(?<=://)[^/@\s]+(?=@)"  # headers, user info in URLs
    r"|(?<=key=)[^&\s\"']+|(?<=token=)[^&\s\"']+)",
    re.IGNORECASE,
)


def _secret_texts(key: str | None) -> Iterator[str]:
    """The key, or what it consists of: AWS quotes the token of a session in its errors."""
    if not key or len(key) < 4:
        return
    yield key
    if cloud_keys.is_json(key):
        try:
            values = msgspec.json.decode(key, type=dict[str, object]).values()
        except (msgspec.DecodeError, UnicodeError):
            return
        yield from (value for value in values if isinstance(value, str) and len(value) >= 16)


def scrub(text: str, key: str | None = None) -> str:
    """Remove what looks like a secret, and `key` itself."""
    for secret in _secret_texts(key):
        text = text.replace(secret, "***")
    return _SECRETS.sub("***", text)
