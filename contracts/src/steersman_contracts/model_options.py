"""How a model is called: what an administrator sets once per model, for every chat that uses it.

`ModelSettings` is the same for every provider. `options` is typed per wire format: a key that the
format does not have is refused with its name, so that a typing error never passes for a setting.
None everywhere means: not sent, the provider decides.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, TypeVar

import msgspec

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import JsonObject

S = TypeVar("S", bound=msgspec.Struct)

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: Final[tuple[Effort, ...]] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The scale of reasoning effort, weakest first. Adapters map it to the nearest their API has."""

ComputerForm: TypeAlias = Literal["native", "function"]
"""How a model is offered the computer tool: as its provider's own, or as a plain function."""

Domain = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9*][A-Za-z0-9.*_/-]{0,252}$(?!\n)", max_length=253)
]
Domains: TypeAlias = Annotated[tuple[Domain, ...], msgspec.Meta(max_length=100)]
Price = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
"""Micro-units of the currency for a million tokens: 3_000_000 is 3 dollars."""


class PriceTier(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a million tokens cost in a step with more input than `above`, cached input included."""

    above: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    input: Price
    output: Price
    cache_read: Price | None = None
    """None: as input, of this tier."""
    cache_write: Price | None = None


class Prices(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a million tokens cost. None is unknown, which is not the same as free."""

    input: Price | None = None
    output: Price | None = None
    """Reasoning is part of the output and is not charged again."""
    cache_read: Price | None = None
    """None: as input."""
    cache_write: Price | None = None
    """None: as input."""
    tiers: Annotated[tuple[PriceTier, ...], msgspec.Meta(max_length=10)] = ()
    """For long input: the last one that the input is above is what all tokens of a step cost."""


class ModelSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model is called, whatever its provider."""

    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    reasoning_effort: Effort | None = None
    """What a chat gets that does not ask for another."""
    max_reasoning_effort: Effort | None = None
    """The most that a chat may ask for."""
    compaction_threshold: Annotated[int, msgspec.Meta(ge=0, le=100)] = 70
    """Percent of the context limit at which older history is summarised; 100: never."""
    compaction_model: ModelName | None = None
    """Another model that writes the summaries; None: the model itself."""
    prices: Prices = Prices()
    fallbacks: Annotated[tuple[ModelName, ...], msgspec.Meta(max_length=5)] = ()
    """Models that are tried in this order when this one goes on failing."""
    fallback_after: Annotated[int, msgspec.Meta(ge=1, le=25)] = 3
    """Failed attempts at one model before the next one is tried."""
    options: JsonObject = {}
    """The options of the provider's wire format: see `parse_options`."""


class AnthropicOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Anthropic Messages."""

    web_search_enabled: bool = False
    allowed_domains: Domains = ()
    blocked_domains: Domains = ()
    send_reasoning: bool = True
    """False: reasoning is not sent back; only for models that accept that."""
    thinking: Literal["adaptive", "enabled", "disabled"] | None = None
    thinking_budget_tokens: Annotated[int, msgspec.Meta(ge=1024)] | None = None
    """With `thinking: enabled`; below `max_output_tokens`."""
    thinking_display: Literal["summarized", "omitted"] | None = None
    disable_parallel_tool_use: bool = False
    computer_use: ComputerForm | None = None
    """None: native where Anthropic itself is known to take it from the model."""
    beta_headers: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ()


class OpenAIOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """OpenAI, the Responses API."""

    web_search_enabled: bool = False
    search_context_size: Literal["low", "medium", "high"] | None = None
    allowed_domains: Domains = ()
    include: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ()
    instructions: str | None = None
    """Put before the system prompt."""
    logit_bias: dict[str, Annotated[float, msgspec.Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    max_tool_calls: Annotated[int, msgspec.Meta(ge=1)] | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    reasoning_summary: Literal["auto", "concise", "detailed"] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    text_verbosity: Literal["low", "medium", "high"] | None = None
    prediction: JsonObject | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    """None: the id of the chat."""
    safety_identifier: str | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    strict_json_schema: bool = False
    computer_use: ComputerForm | None = None
    """None: native where OpenAI itself is known to take it from the model."""
    chain_responses: bool = False
    """Send only what is new, after `previous_response_id`, where the stored response allows it."""


class CompatibleOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Any server with Chat Completions: Azure, OpenRouter, vLLM, llama.cpp, Ollama and others."""

    user: str | None = None
    reasoning_effort: str | None = None
    """Sent as it is; wins over `ModelSettings.reasoning_effort`."""
    parallel_tool_calls: bool | None = None
    extra_body: JsonObject = {}
    """Further top-level fields of the request, such as OpenRouter's `provider` and `reasoning`."""


class SafetySetting(msgspec.Struct, frozen=True):
    """A threshold for one kind of harm, in Google's own words."""

    category: str
    threshold: str


class GoogleOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Gemini, and Gemini on Vertex."""

    web_search_enabled: bool = False
    thinking_budget: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    """Tokens; 0 is off, -1 lets the model decide. Not together with `thinking_level`."""
    thinking_level: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    include_thoughts: bool = True
    cached_content: str | None = None
    computer_use: ComputerForm | None = None
    """None: native for the models that are known to have it."""
    safety_settings: Annotated[tuple[SafetySetting, ...], msgspec.Meta(max_length=20)] = ()


class NoOptions(msgspec.Struct, frozen=True):
    """A wire format without options."""


Options: TypeAlias = (
    AnthropicOptions | OpenAIOptions | CompatibleOptions | GoogleOptions | NoOptions
)

OPTIONS: Final[dict[str, type[Options]]] = {
    "anthropic": AnthropicOptions,
    "openai-responses": OpenAIOptions,
    "openai-chat": CompatibleOptions,
    "google": GoogleOptions,
    "demo": NoOptions,
    "anthropic-bedrock": AnthropicOptions,
    "anthropic-vertex": AnthropicOptions,
    "google-vertex": GoogleOptions,
}
"""Wire format → the type of its options."""


def parse_settings(provider_type: str, settings: JsonObject) -> ModelSettings:
    """Check what an administrator sets for a model of this wire format.

    Raises:
        InvalidRequest: A key is unknown, or a value is not allowed; the message names it.
    """
    parsed = _parse(ModelSettings, settings, "settings")
    _parse(Prices, settings.get("prices", {}), "settings.prices")
    for number, tier in enumerate(settings.get("prices", {}).get("tiers", ())):
        _parse(PriceTier, tier, f"settings.prices.tiers[{number}]")
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
        InvalidRequest: A key is unknown, or a value is not allowed; the message names it.
    """
    parsed = _parse(OPTIONS[provider_type], options, "settings.options")
    if problem := _contradiction(parsed) or _missing(provider_type, parsed):
        raise InvalidRequest(f"settings.options: {problem}", field="settings.options")
    return parsed


def read_options(provider_type: str, options: JsonObject) -> Options:
    """Read options that were checked when they were stored, perhaps by a newer version."""
    return msgspec.convert(options, OPTIONS[provider_type])


def _parse(kind: type[S], value: JsonObject, field: str) -> S:
    # The structs themselves are open, so that an older service can read what a newer one stored.
    try:
        parsed = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{field}: {error}", field=field) from error
    if unknown := sorted(value.keys() - set(kind.__struct_fields__)):
        raise InvalidRequest(f"{field}: there is no {unknown[0]!r}", field=f"{field}.{unknown[0]}")
    return parsed


def _missing(provider_type: str, options: Options) -> str | None:
    if provider_type == "anthropic-bedrock" and isinstance(options, AnthropicOptions):
        return "Bedrock has no web_search" if options.web_search_enabled else None
    return None


def _contradiction(options: Options) -> str | None:
    match options:
        case AnthropicOptions(allowed_domains=[_, *_], blocked_domains=[_, *_]):
            return "either allowed_domains or blocked_domains, not both"
        case AnthropicOptions(thinking_budget_tokens=int(), thinking=thinking) if (
            thinking != "enabled"
        ):
            return "thinking_budget_tokens needs thinking: enabled"
        case GoogleOptions(thinking_budget=int(), thinking_level=str()):
            return "either thinking_budget or thinking_level, not both"
        case _:
            return None
