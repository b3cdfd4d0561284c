"""Every field of the SDKs' request types is sent, or refused by name with a reason.

A newer SDK's new field fails here: it becomes an option, or a line of `refused_options`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, cast, get_args, get_origin, get_type_hints

import msgspec
import pytest
from anthropic.types import (
    CacheControlEphemeralParam,
    MetadataParam,
    OutputConfigParam,
    ThinkingConfigAdaptiveParam,
    ThinkingConfigEnabledParam,
    ThinkingConfigParam,
    ToolChoiceAutoParam,
    UserLocationParam,
    WebSearchTool20250305Param,
)
from anthropic.types import message_create_params as messages
from anthropic.types.beta import (
    BetaOutputConfigParam,
    BetaThinkingConfigAdaptiveParam,
    BetaThinkingConfigEnabledParam,
)
from anthropic.types.beta import message_create_params as beta_messages
from contract.providers.harness import ADD, CHAT, NOW
from contract.providers.test_options import EXACT, ROWS, TO_REQUEST, WAYS, model_of
from google.genai import types as google
from openai.types import ReasoningEffort
from openai.types.chat import completion_create_params as completions
from openai.types.responses import ResponseTextConfigParam, WebSearchToolParam
from openai.types.responses import response_create_params as responses
from openai.types.responses import web_search_tool_param as of_tool
from openai.types.responses.service_tier import ServiceTier
from openai.types.shared_params import Reasoning

from steersman_chatloop.prompt import prepare
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.registry import wire_format
from steersman_contracts.chats import Message, Role
from steersman_contracts.ids import MessageId
from steersman_contracts.model_options import (
    EFFORTS,
    AnthropicOptions,
    CompatibleOptions,
    GoogleOptions,
    OpenAIOptions,
    SafetySetting,
    UserLocation,
)
from steersman_contracts.parts import JsonObject, TextPart
from steersman_contracts.refused_options import NOT_OPTIONS

Form = Any
"""Types as values: the typing module itself has no better word for them."""
SAMPLING: Final[JsonObject] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
}
ANSWER: Final[JsonObject] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def bodies(name: str) -> Iterator[JsonObject]:
    """All that is ever sent this way: each option, and what the loop itself asks for."""
    way = WAYS[name]
    said = Message(MessageId(1), Role.USER, (TextPart("hi"),), 1, NOW)
    for row in (row for row in ROWS if name in row.changes):
        model = model_of(way, row.beside | {row.option: row.value})
        yield _body(StepRequest(CHAT, model, "Be brief.", prepare([said]), (EXACT, ADD)))
    model = model_of(way, {})
    tuned = msgspec.convert(SAMPLING, type(model.settings))
    tuned = msgspec.structs.replace(tuned, options=model.settings.options)
    model = msgspec.structs.replace(model, settings=tuned)
    plain = StepRequest(CHAT, model, "Be brief.", prepare([said]), (), response_schema=ANSWER)
    yield _body(plain)
    yield _body(msgspec.structs.replace(plain, tools=(ADD,), tool_choice="none"))


def _body(request: StepRequest) -> JsonObject:
    body = TO_REQUEST[wire_format(request.model)](request)
    return msgspec.json.decode(msgspec.json.encode(body), type=JsonObject)


def fields(form: Form) -> set[str]:
    """The fields of a typed dict, or of a model of Google's."""
    return set(getattr(form, "model_fields", None) or get_type_hints(form))


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def at(path: str, body: JsonObject) -> Iterator[JsonObject]:
    """The objects at a path; of a list those that are of a type, as in `tools:web_search`."""
    name, _, rest = path.partition(".")
    name, _, kind = name.partition(":")
    if not name:
        yield body
        return
    found: Any = body.get(name, {})
    for one in cast("list[JsonObject]", found if isinstance(found, list) else [found]):
        if kind in ("", one.get("type"), *one):
            yield from at(rest, one)


FORMATS: Final = {
    "anthropic": "anthropic",
    "responses": "openai-responses",
    "completions": "openai-chat",
    "gemini": "google",
}
SENT_AT_TIMES: Final[dict[str, set[str]]] = {
    "anthropic": {"betas"},  # as a header: `beta_headers`
    "responses": {"previous_response_id"},  # `test_chaining`
    "completions": {"max_tokens"},  # to compatible servers
    "gemini": {"safety_settings.method"},  # to Vertex: `test_clouds`
}
"""What is sent, though not in these requests."""
WALKED: Final[dict[tuple[str, str], tuple[str, list[Form]]]] = {
    # (part of the page, prefix of the field) → (ways, where in the body), the SDK's types
    ("anthropic", ""): (
        "",
        [messages.MessageCreateParamsStreaming, beta_messages.MessageCreateParamsStreaming],
    ),
    ("anthropic", "output_config."): ("output_config", [OutputConfigParam, BetaOutputConfigParam]),
    ("anthropic", "metadata."): ("metadata", [MetadataParam]),
    ("anthropic", "tool_choice."): ("tool_choice", [ToolChoiceAutoParam]),
    ("anthropic", "thinking."): (
        "thinking",
        [
            ThinkingConfigAdaptiveParam,
            ThinkingConfigEnabledParam,
            BetaThinkingConfigAdaptiveParam,
            BetaThinkingConfigEnabledParam,
        ],
    ),
    ("anthropic", "web_search."): ("tools:web_search_20250305", [WebSearchTool20250305Param]),
    ("responses", ""): ("", [responses.ResponseCreateParamsStreaming]),
    ("responses", "reasoning."): ("reasoning", [Reasoning]),
    ("responses", "text."): ("text", [ResponseTextConfigParam]),
    ("responses", "prompt_cache_options."): (
        "prompt_cache_options",
        [responses.PromptCacheOptions],
    ),
    ("responses", "stream_options."): ("stream_options", [responses.StreamOptions]),
    ("responses", "web_search."): ("tools:web_search", [WebSearchToolParam]),
    ("completions", ""): ("", [completions.CompletionCreateParamsStreaming]),
    ("completions", "web_search_options."): ("web_search_options", [completions.WebSearchOptions]),
    ("completions", "prompt_cache_options."): (
        "prompt_cache_options",
        [completions.PromptCacheOptions],
    ),
    ("gemini", ""): ("", [google.GenerateContentConfig]),
    ("gemini", "thinking_config."): ("generationConfig.thinkingConfig", [google.ThinkingConfig]),
    ("gemini", "safety_settings."): ("safetySettings", [google.SafetySetting]),
    ("gemini", "tool_config."): ("toolConfig", [google.ToolConfig]),
    ("gemini", "google_search."): ("tools:googleSearch.googleSearch", [google.GoogleSearch]),
}


@pytest.mark.parametrize("way", ["anthropic", "responses", "completions", "gemini"])
def test_every_field_of_the_sdk_is_sent_or_refused_with_a_reason(way: str) -> None:
    sent_bodies = list(bodies(way))
    unsent: set[str] = set()
    for (name, prefix), (path, forms) in WALKED.items():
        if name != way:
            continue
        offered = set[str]().union(*map(fields, forms))
        sent = {snake(key) for body in sent_bodies for found in at(path, body) for key in found}
        if way == "gemini" and not prefix:  # the SDK has both levels of the body in one
            inner = (body["generationConfig"] for body in sent_bodies)
            sent |= {snake(key) for config in inner for key in config}
        unsent |= {prefix + field for field in offered - sent}

    assert unsent - SENT_AT_TIMES[way] == set(NOT_OPTIONS[FORMATS[way]])
    assert unsent >= SENT_AT_TIMES[way]


def values(form: Form) -> set[str]:
    """The words of a literal, of a choice between literals or of an enumeration."""
    if get_origin(form) is Literal:
        return {value for value in get_args(form) if isinstance(value, str)}
    if isinstance(form, type) and issubclass(form, Enum):
        return {str(value.value).lower() for value in form}
    return set[str]().union(*map(values, get_args(form)))


def of(form: Form, name: str) -> Form:
    return get_type_hints(form)[name]


Pair: TypeAlias = tuple[set[str], set[str]]
CHAT_FORM: Final = completions.CompletionCreateParamsStreaming
CHOICES: Final[dict[str, Pair]] = {
    # ours, theirs
    "anthropic effort": (
        values(of(AnthropicOptions, "effort")),
        values(of(OutputConfigParam, "effort")),
    ),
    "anthropic thinking": (
        values(of(AnthropicOptions, "thinking")),
        set[str]().union(*(values(of(one, "type")) for one in get_args(ThinkingConfigParam))),
    ),
    "anthropic display": (
        values(of(AnthropicOptions, "thinking_display")),
        values(of(ThinkingConfigAdaptiveParam, "display")),
    ),
    "anthropic cache": (
        values(of(AnthropicOptions, "cache_ttl")),
        values(of(CacheControlEphemeralParam, "ttl")),
    ),
    "anthropic tier": (
        values(of(AnthropicOptions, "service_tier")),
        values(of(messages.MessageCreateParamsStreaming, "service_tier")),
    ),
    "anthropic speed": (
        values(of(AnthropicOptions, "speed")),
        values(of(messages.MessageCreateParamsStreaming, "speed")),
    ),
    "openai effort": (set(EFFORTS), values(ReasoningEffort)),
    "openai summary": (
        values(of(OpenAIOptions, "reasoning_summary")),
        values(of(Reasoning, "summary")),
    ),
    "openai mode": (values(of(OpenAIOptions, "reasoning_mode")), values(of(Reasoning, "mode"))),
    "openai context": (
        values(of(OpenAIOptions, "reasoning_context")),
        values(of(Reasoning, "context")),
    ),
    "openai verbosity": (
        values(of(OpenAIOptions, "text_verbosity")),
        values(of(ResponseTextConfigParam, "verbosity")),
    ),
    "openai tier": (values(of(OpenAIOptions, "service_tier")), values(ServiceTier)),
    "openai tier of chat completions": (
        values(of(OpenAIOptions, "service_tier")) - {"ultrafast"},
        values(of(CHAT_FORM, "service_tier")),
    ),
    "openai search": (
        values(of(OpenAIOptions, "search_context_size")),
        values(of(WebSearchToolParam, "search_context_size")),
    ),
    "openai cache": (
        values(of(OpenAIOptions, "prompt_cache_ttl")),
        values(of(responses.PromptCacheOptions, "ttl")),
    ),
    "openai retention": (
        values(of(CompatibleOptions, "prompt_cache_retention")),
        values(of(CHAT_FORM, "prompt_cache_retention")),
    ),
    "google level": (
        values(of(GoogleOptions, "thinking_level")) | {"thinking_level_unspecified"},
        values(google.ThinkingLevel),
    ),
    "google threshold": (
        {value.lower() for value in values(of(SafetySetting, "threshold"))}
        | {"harm_block_threshold_unspecified"},
        values(google.HarmBlockThreshold),
    ),
    "google method": (
        {value.lower() for value in values(of(SafetySetting, "method"))}
        | {"harm_block_method_unspecified"},
        values(google.HarmBlockMethod),
    ),
    "google resolution": (
        {f"media_resolution_{one}" for one in values(of(GoogleOptions, "media_resolution"))}
        | {"media_resolution_unspecified"},
        values(google.MediaResolution),
    ),
    "google tier": (
        values(of(GoogleOptions, "service_tier")) | {"unspecified"},
        values(google.ServiceTier),
    ),
    "places": (
        set(UserLocation.__struct_fields__) | {"type"},
        fields(UserLocationParam) | fields(of_tool.UserLocation),
    ),
    "places of chat completions": (
        set(UserLocation.__struct_fields__),
        fields(completions.WebSearchOptionsUserLocationApproximate),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_there_is_the_same_to_choose_from_as_in_the_sdk(name: str) -> None:
    ours, theirs = CHOICES[name]

    assert ours == theirs
