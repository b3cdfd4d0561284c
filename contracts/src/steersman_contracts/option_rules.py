"""Checks what an administrator sets for a model, when it is written: every problem names its field.

What a wire format does not have is refused, at any depth, because it would never be sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.model_options import (
    EFFORTS,
    OPTIONS,
    AnthropicOptions,
    CompatibleOptions,
    GoogleOptions,
    ModelSettings,
    OpenAIOptions,
    Options,
)
from steersman_contracts.parts import JsonObject
from steersman_contracts.refused_options import why_not

S = TypeVar("S", bound=msgspec.Struct)

_PATH: Final = re.compile(r" - at `(?:key in )?\$([^`]*)`$")

ONLY_RESPONSES: Final = (
    "include",
    "max_tool_calls",
    "reasoning_summary",
    "reasoning_mode",
    "reasoning_context",
    "allowed_domains",
    "external_web_access",
    "chain_responses",
)
"""Options of OpenAI that Chat Completions has nothing like."""
ONLY_CHAT: Final = ("logit_bias", "prediction", "seed", "stop")
"""Options of OpenAI that the Responses API has nothing like."""
ONLY_ANTHROPIC_ITSELF: Final = ("service_tier", "inference_geo", "speed")
"""Options of Anthropic that its models have nowhere else."""


_PLAIN: Final = OpenAIOptions()


class Problem(NamedTuple):
    """What is wrong with an option."""

    option: str
    says: str


def parse_settings(provider_type: str, settings: JsonObject) -> ModelSettings:
    """Check what an administrator sets for a model of this wire format.

    Raises:
        InvalidRequest: A key is unknown, or a value is not allowed; it names the field.
    """
    parsed = _parse(ModelSettings, settings, "settings")
    limits = [tier.above for tier in parsed.prices.tiers]
    if len(set(limits)) < len(limits):
        raise InvalidRequest("two tiers begin at the same input", field="settings.prices.tiers")
    default, most = parsed.reasoning_effort, parsed.max_reasoning_effort
    if default is not None and most is not None and EFFORTS.index(default) > EFFORTS.index(most):
        field = "settings.reasoning_effort"
        raise InvalidRequest(f"{field}: {default} is above the limit {most}", field=field)
    parse_options(provider_type, parsed.options)
    return parsed


def parse_options(provider_type: str, options: JsonObject) -> Options:
    """Check the options of a model against its wire format.

    Raises:
        InvalidRequest: A key is unknown, or a value is not allowed; it names the field.
    """
    for name in options:
        if (reason := why_not(provider_type, name)) is not None:
            field = f"settings.options.{name}"
            raise InvalidRequest(f"{field}: it is no option: {reason}", field=field)
    parsed = _parse(OPTIONS[provider_type], options, "settings.options")
    problem = next(_problems(provider_type, parsed), None)
    if problem is not None:
        field = f"settings.options.{problem.option}"
        raise InvalidRequest(f"{field}: {problem.says}", field=field)
    return parsed


def _parse(kind: type[S], value: JsonObject, field: str) -> S:
    try:
        parsed = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        path = _PATH.search(str(error))
        where = field + (path[1] if path is not None else "")
        raise InvalidRequest(f"{where}: {_PATH.sub('', str(error))}", field=where) from error
    if unknown := next(_unknown(parsed, value, field), None):
        where, _, name = unknown.rpartition(".")
        raise InvalidRequest(f"{where}: there is no {name!r}", field=unknown)
    return parsed


def _unknown(parsed: object, value: Any, field: str) -> Iterator[str]:
    """The keys in `value` that nothing was read from. Free-form objects have none."""
    if isinstance(parsed, msgspec.Struct) and isinstance(value, dict):
        given = cast("JsonObject", value)
        known = {*parsed.__struct_fields__, parsed.__struct_config__.tag_field}
        yield from (f"{field}.{name}" for name in sorted(given.keys() - known))
        for name in parsed.__struct_fields__:
            yield from _unknown(getattr(parsed, name), given.get(name), f"{field}.{name}")
    elif isinstance(parsed, tuple) and isinstance(value, list):
        pairs = zip(cast("tuple[object, ...]", parsed), cast("list[Any]", value), strict=True)
        for at, (item, given_item) in enumerate(pairs):
            yield from _unknown(item, given_item, f"{field}[{at}]")


def _problems(provider_type: str, options: Options) -> Iterator[Problem]:
    match options:
        case AnthropicOptions():
            yield from _anthropic(provider_type, options)
        case OpenAIOptions():
            yield from _openai(options)
        case CompatibleOptions():
            yield from _compatible(options)
        case GoogleOptions():
            yield from _google(provider_type, options)
        case _:
            pass


def _anthropic(provider_type: str, options: AnthropicOptions) -> Iterator[Problem]:
    if options.web_search_enabled and provider_type == "anthropic-bedrock":
        yield Problem("web_search_enabled", "Bedrock has no web_search")
    if options.allowed_domains and options.blocked_domains:
        yield Problem("blocked_domains", "either allowed_domains or blocked_domains, not both")
    if options.thinking_budget_tokens is not None and options.thinking != "enabled":
        yield Problem("thinking_budget_tokens", "it needs thinking: enabled")
    if options.thinking_display is not None and options.thinking in ("between_tools", "disabled"):
        says = f"there is nothing to display with thinking: {options.thinking}"
        yield Problem("thinking_display", says)
    if provider_type != "anthropic":
        for name in ONLY_ANTHROPIC_ITSELF:
            if getattr(options, name) is not None:
                yield Problem(name, "only Anthropic itself has it, its models in clouds have not")


def _openai(options: OpenAIOptions) -> Iterator[Problem]:
    missing = ONLY_CHAT if options.use_responses_api else ONLY_RESPONSES
    needed = "false" if options.use_responses_api else "true"
    for name in missing:
        if getattr(options, name) != getattr(_PLAIN, name):
            yield Problem(name, f"it needs use_responses_api: {needed}")
    if options.computer_use == "native" and not options.use_responses_api:
        yield Problem("computer_use", "the native form needs use_responses_api: true")
    if options.service_tier == "ultrafast" and not options.use_responses_api:
        yield Problem("service_tier", "ultrafast needs use_responses_api: true")
    yield from _logprobs(options)


def _compatible(options: CompatibleOptions) -> Iterator[Problem]:
    for name in ("provider", "reasoning"):
        if getattr(options, name) is not None and name in options.extra_body:
            yield Problem(f"extra_body.{name}", f"either {name} or extra_body.{name}, not both")
    reasoning = options.reasoning
    if reasoning is not None and reasoning.effort is not None and reasoning.max_tokens is not None:
        yield Problem("reasoning.max_tokens", "either effort or max_tokens, not both")
    yield from _logprobs(options)


def _logprobs(options: OpenAIOptions | CompatibleOptions) -> Iterator[Problem]:
    if options.logprobs is False and options.top_logprobs:
        yield Problem("top_logprobs", "it needs logprobs: true")


def _google(provider_type: str, options: GoogleOptions) -> Iterator[Problem]:
    if options.thinking_budget is not None and options.thinking_level is not None:
        yield Problem("thinking_level", "either thinking_budget or thinking_level, not both")
    for at, setting in enumerate(options.safety_settings):
        if setting.method is not None and provider_type == "google":
            yield Problem(f"safety_settings[{at}].method", "the Gemini API has none, Vertex has")
    if options.store is not None and provider_type == "google-vertex":
        yield Problem("store", "Vertex has none, the Gemini API has")
