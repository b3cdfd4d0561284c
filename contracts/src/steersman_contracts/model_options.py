"""How a model is called: what an administrator sets once per model, for every chat that uses it.

`ModelSettings` is the same for every provider. `options` is typed per wire format: a key that the
format does not have is refused with its name, so that a typing error never passes for a setting
(`option_rules`). None everywhere means: not sent, the provider decides.

The structs themselves are open, so that an older service can read what a newer one stored.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ModelName
from steersman_contracts.parts import JsonObject

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: Final[tuple[Effort, ...]] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The scale of reasoning effort, weakest first. Adapters map it to the nearest their API has."""

ComputerForm: TypeAlias = Literal["native", "function"]
"""How a model is offered the computer tool: as its provider's own, or as a plain function."""

Domain = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9*][A-Za-z0-9.*_/-]{0,252}$(?!\n)", max_length=253)
]
Domains: TypeAlias = Annotated[tuple[Domain, ...], msgspec.Meta(max_length=100)]
BetaHeader: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x2b\x2d-\x7e]{1,100}$(?!\n)")]
Hosts: TypeAlias = Annotated[tuple[str, ...], msgspec.Meta(max_length=50)]
Dollars: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
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
    foreign_reasoning: Literal["drop", "inline"] = "drop"
    """What the model gets of the readable reasoning of other models: nothing, or marked text."""
    prices: Prices = Prices()
    fallbacks: Annotated[tuple[ModelName, ...], msgspec.Meta(max_length=5)] = ()
    """Models that are tried in this order when this one goes on failing."""
    fallback_after: Annotated[int, msgspec.Meta(ge=1, le=25)] = 3
    """Failed attempts at one model before the next one is tried."""
    options: JsonObject = {}
    """The options of the provider's wire format: see `OPTIONS`."""


class UserLocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Roughly where the people are for whom a provider searches."""

    city: str | None = None
    region: str | None = None
    country: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z]{2}$(?!\n)")] | None = None
    """Two letters of ISO 3166-1."""
    timezone: str | None = None
    """A name of the time zone database."""


StopSequence: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
"""Text at which the model stops; it is not a part of the answer."""


class AnthropicOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Anthropic Messages."""

    web_search_enabled: bool = False
    allowed_domains: Domains = ()
    blocked_domains: Domains = ()
    search_max_uses: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Searches in one request."""
    user_location: UserLocation | None = None
    """For searches."""
    send_reasoning: bool = True
    """False: reasoning is not sent back; only for models that accept that."""
    thinking: Literal["adaptive", "enabled", "between_tools", "disabled"] | None = None
    thinking_budget_tokens: Annotated[int, msgspec.Meta(ge=1024)] | None = None
    """With `thinking: enabled`; below `max_output_tokens`."""
    thinking_display: Literal["summarized", "omitted"] | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    """Sent as it is; wins over `ModelSettings.reasoning_effort`."""
    disable_parallel_tool_use: bool = False
    cache_ttl: Literal["5m", "1h"] | None = None
    """How long a prefix is kept; an hour costs more to write: set `prices.cache_write` as well."""
    stop_sequences: Annotated[tuple[StopSequence, ...], msgspec.Meta(max_length=100)] = ()
    service_tier: Literal["auto", "standard_only"] | None = None
    """Anthropic itself alone, as are the next two."""
    inference_geo: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    """Where in the world the model runs."""
    speed: Literal["standard", "fast"] | None = None
    """Some models want a beta header for it."""
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    """`metadata.user_id`, by which Anthropic tells abusers apart; nothing that names a person."""
    computer_use: ComputerForm | None = None
    """None: native where Anthropic itself is known to take it from the model."""
    beta_headers: Annotated[tuple[BetaHeader, ...], msgspec.Meta(max_length=20)] = ()


LogitBias: TypeAlias = dict[
    Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}$(?!\n)")],
    Annotated[float, msgspec.Meta(ge=-100, le=100)],
]
"""Token id → how much more or less likely it gets."""
Verbosity: TypeAlias = Literal["low", "medium", "high"]
TokenLimit: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
LogprobCount: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=20)]


Seed: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Equal requests with an equal seed are answered alike, as far as the provider can."""
CacheTtl: TypeAlias = Literal["30m", "12h"]
"""How long a prefix is kept at least, by models that know it."""
CacheRetention: TypeAlias = Literal["in_memory", "24h"]
"""How long a prefix is kept at most, by models from before `CacheTtl`."""


class PredictedText(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """A piece of what the model is likely to say."""

    text: str


class Prediction(msgspec.Struct, frozen=True, tag_field="type", tag="content"):
    """What the model is likely to say, such as a file that it changes in one place."""

    content: str | tuple[PredictedText, ...]


class OpenAIOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """OpenAI: the Responses API, or on request Chat Completions.

    Each of the two has options that the other does not know: `option_rules` says which.
    """

    use_responses_api: bool = True
    """False: Chat Completions of the same server."""
    web_search_enabled: bool = False
    """By Chat Completions only the models take it that are made for searching."""
    search_context_size: Literal["low", "medium", "high"] | None = None
    allowed_domains: Domains = ()
    """The Responses API alone."""
    user_location: UserLocation | None = None
    """For searches."""
    external_web_access: bool | None = None
    """False: searches find what OpenAI has read before. The Responses API alone."""
    include: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ()
    """The Responses API alone."""
    instructions: str | None = None
    """Put before the system prompt."""
    logit_bias: LogitBias | None = None
    """Chat Completions alone."""
    logprobs: bool | None = None
    top_logprobs: LogprobCount | None = None
    max_tool_calls: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The Responses API alone: of the tools that the provider runs itself."""
    parallel_tool_calls: bool | None = None
    user: str | None = None
    reasoning_effort: Effort | None = None
    """Sent as it is; wins over `ModelSettings.reasoning_effort`."""
    reasoning_summary: Literal["auto", "concise", "detailed"] | None = None
    """The Responses API alone, as are the next two."""
    reasoning_mode: Literal["standard", "pro"] | None = None
    reasoning_context: Literal["auto", "current_turn", "all_turns"] | None = None
    """Which of its earlier reasoning the model is shown again."""
    max_completion_tokens: TokenLimit | None = None
    """In place of `max_output_tokens` of the model."""
    text_verbosity: Verbosity | None = None
    prediction: Prediction | None = None
    """Chat Completions alone."""
    store: bool | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    """None: the id of the chat."""
    prompt_cache_ttl: CacheTtl | None = None
    prompt_cache_retention: CacheRetention | None = None
    safety_identifier: str | None = None
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = None
    """`ultrafast`: the Responses API alone."""
    seed: Seed | None = None
    """Chat Completions alone, and so is `stop`."""
    stop: Annotated[tuple[StopSequence, ...], msgspec.Meta(max_length=4)] = ()
    strict_json_schema: bool = False
    """Arguments are held to the schemas of tools that are fit for it."""
    computer_use: ComputerForm | None = None
    """None: native where OpenAI itself is known to take it from the model."""
    chain_responses: bool = False
    """Send only what is new, after `previous_response_id`, where the stored response allows it.
    The Responses API alone."""


class MaxPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """The most that a route of OpenRouter may cost: dollars for a million tokens, or for one."""

    prompt: Dollars | None = None
    completion: Dollars | None = None
    request: Dollars | None = None
    """Dollars for one request."""
    image: Dollars | None = None
    """Dollars for one image."""


class Routing(msgspec.Struct, frozen=True, omit_defaults=True):
    """To whom OpenRouter passes a request on."""

    order: Hosts = ()
    """Tried first, in this order."""
    only: Hosts = ()
    ignore: Hosts = ()
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    """Only hosts that know every parameter of the request."""
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    """Only hosts that keep nothing."""
    enforce_distillable_text: bool | None = None
    quantizations: Hosts = ()
    sort: Literal["price", "throughput", "latency"] | None = None
    max_price: MaxPrice | None = None


class RoutedReasoning(msgspec.Struct, frozen=True, omit_defaults=True):
    """How hard a model of OpenRouter thinks: by effort or by tokens."""

    effort: Effort | None = None
    max_tokens: TokenLimit | None = None
    """Not together with `effort`."""
    exclude: bool | None = None
    """It thinks, and the thoughts are not sent."""
    enabled: bool | None = None


class CompatibleOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Any server with Chat Completions: OpenAI, Azure, OpenRouter, vLLM, llama.cpp and others.

    What is set is sent; a server may refuse or ignore what it does not know.
    """

    user: str | None = None
    reasoning_effort: str | None = None
    """Sent as it is; wins over `ModelSettings.reasoning_effort`."""
    parallel_tool_calls: bool | None = None
    instructions: str | None = None
    """Put before the system prompt."""
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: LogprobCount | None = None
    max_completion_tokens: TokenLimit | None = None
    """In place of `max_output_tokens` of the model, and under this very name."""
    text_verbosity: Verbosity | None = None
    prediction: Prediction | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    """None: the id of the chat for OpenAI itself, and nothing for others."""
    prompt_cache_ttl: CacheTtl | None = None
    prompt_cache_retention: CacheRetention | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    seed: Seed | None = None
    stop: Annotated[tuple[StopSequence, ...], msgspec.Meta(max_length=16)] = ()
    strict_json_schema: bool = False
    """Arguments are held to the schemas of tools that are fit for it."""
    provider: Routing | None = None
    """OpenRouter alone."""
    reasoning: RoutedReasoning | None = None
    """OpenRouter's form of the effort; wins over every other."""
    extra_body: JsonObject = {}
    """Further top-level fields of the request. They win over what we send, except for those without
    which there is no conversation."""


class SafetySetting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A threshold for one kind of harm, in Google's own words."""

    category: Annotated[str, msgspec.Meta(pattern=r"^HARM_CATEGORY_[A-Z_]{1,50}$(?!\n)")]
    threshold: Literal[
        "OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE"
    ]
    method: Literal["SEVERITY", "PROBABILITY"] | None = None
    """Vertex alone."""


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
    seed: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    stop_sequences: Annotated[tuple[StopSequence, ...], msgspec.Meta(max_length=5)] = ()
    media_resolution: Literal["low", "medium", "high"] | None = None
    """How many tokens an image or a page is worth."""
    service_tier: Literal["flex", "standard", "priority"] | None = None
    labels: dict[str, str] | None = None
    """For the bill of the cloud."""
    store: bool | None = None
    """Whether Google may log the request. The Gemini API alone."""


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


def read_options(provider_type: str, options: JsonObject) -> Options:
    """Read options that were checked when they were stored, perhaps by a newer version."""
    return msgspec.convert(options, OPTIONS[provider_type])
