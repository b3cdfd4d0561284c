"""What a request to Chat Completions may consist of."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fakes.openai import describe, strictness_error
from fakes.script import (
    ViewedTool,
)
from fakes.wire import (
    TOOL_NAME,
    JsonValue,
    Refused,
    problem,
    schema_error,
)

Object: TypeAlias = dict[str, object]


Dialect: TypeAlias = Literal["hidden", "content", "details"]


_HIDDEN: Final = re.compile(r"(?:openai/)?(?:gpt-(?!oss)|chatgpt|o\d)")


_DETAILS: Final = re.compile(r"(?:openrouter|vercel)/")


def dialect(model: str) -> Dialect:
    if _HIDDEN.match(model):
        return "hidden"
    return "details" if _DETAILS.match(model) else "content"


class _Strict(Struct, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    pass


class TextPart(_Strict, tag="text"):
    text: str
    prompt_cache_breakpoint: Object | None = None
    cache_control: Object | None = None


class ImageUrl(Struct, forbid_unknown_fields=True):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Strict, tag="image_url"):
    image_url: ImageUrl
    prompt_cache_breakpoint: Object | None = None
    cache_control: Object | None = None


class AudioPart(_Strict, tag="input_audio"):
    input_audio: Object
    prompt_cache_breakpoint: Object | None = None


class FileData(Struct, forbid_unknown_fields=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(_Strict, tag="file"):
    file: FileData
    prompt_cache_breakpoint: Object | None = None
    cache_control: Object | None = None


class RefusalPart(_Strict, tag="refusal"):
    refusal: str


Part: TypeAlias = TextPart | ImagePart | AudioPart | FilePart


class CalledFunction(Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class FunctionCall(_Strict, tag="function"):
    id: str
    function: CalledFunction
    # Gemini's compatible endpoint keeps its signatures here.
    extra_content: Object | None = None
    index: int | None = None


class CustomCall(_Strict, tag="custom"):
    id: str
    custom: Object


class _Message(Struct, forbid_unknown_fields=True, kw_only=True, tag_field="role"):
    name: str | None = None


class SystemMessage(_Message, tag="system"):
    content: str | list[TextPart]


class DeveloperMessage(_Message, tag="developer"):
    content: str | list[TextPart]


class UserMessage(_Message, tag="user"):
    content: str | list[Part]


class AssistantMessage(_Message, tag="assistant"):
    content: str | list[TextPart | RefusalPart] | UnsetType | None = UNSET
    tool_calls: list[FunctionCall | CustomCall] | None = None
    refusal: str | None = None
    audio: Object | None = None
    function_call: Object | None = None
    annotations: list[Object] | None = None
    # No part of OpenAI's own API.
    reasoning_content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    reasoning_details: list[Object] | UnsetType | None = UNSET


class ToolMessage(_Message, tag="tool"):
    content: str | list[TextPart]
    tool_call_id: str


class FunctionMessage(_Message, tag="function"):
    content: str | None


Message: TypeAlias = (
    SystemMessage
    | DeveloperMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class PredictedText(_Strict, tag="text"):
    text: str


class Prediction(_Strict, tag="content"):
    content: str | list[PredictedText]


class SearchOptions(Struct, forbid_unknown_fields=True):
    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: Object | None = None


class Request(Struct, forbid_unknown_fields=True):
    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Raw | UnsetType = UNSET
    tool_choice: Literal["none", "auto", "required"] | Object | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    seed: int | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    response_format: Object | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    metadata: dict[str, str] | None = None
    audio: Object | None = None
    function_call: object = None
    functions: object = None
    modalities: list[str] | None = None
    moderation: object = None
    prediction: Prediction | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Object | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: SearchOptions | None = None
    # OpenRouter's and other compatible servers' alone.
    reasoning: Object | UnsetType = UNSET
    usage: Object | UnsetType = UNSET
    provider: Object | UnsetType = UNSET
    plugins: list[Object] | UnsetType = UNSET
    thinking: Object | UnsetType = UNSET
    enable_thinking: bool | UnsetType = UNSET
    chat_template_kwargs: Object | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    min_p: float | UnsetType = UNSET
    repetition_penalty: float | UnsetType = UNSET
    cache_prompt: bool | UnsetType = UNSET


FOREIGN: Final = (
    "reasoning",
    "usage",
    "provider",
    "plugins",
    "thinking",
    "enable_thinking",
    "chat_template_kwargs",
    "top_k",
    "min_p",
    "repetition_penalty",
    "cache_prompt",
)


class FunctionDefinition(Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: Any = None  # JSON of any shape: the check says what is wrong with it
    strict: bool | None = None


class FunctionTool(_Strict, tag="function"):
    function: FunctionDefinition
    cache_control: Object | None = None


class CustomTool(_Strict, tag="custom"):
    custom: Object


REQUEST: Final = msgspec.json.Decoder(Request)


_TOOLS: Final = msgspec.json.Decoder(list[FunctionTool | CustomTool])


@lru_cache(maxsize=256)
def viewed_tools(raw: bytes) -> tuple[ViewedTool, ...]:
    try:
        tools = _TOOLS.decode(raw)
    except msgspec.ValidationError as error:
        raise describe(problem(error).under("tools"), raw) from error
    if not tools:
        raise Refused("Invalid 'tools': empty array.", field="tools", code="empty_array")
    found: list[ViewedTool] = []
    for index, tool in enumerate(tools):
        if isinstance(tool, CustomTool):
            found.append(ViewedTool(str(tool.custom.get("name")), "", {}))
            continue
        _check_function(tool.function, f"tools[{index}].function")
        schema: JsonValue = tool.function.parameters or {"type": "object", "properties": {}}
        found.append(
            ViewedTool(
                tool.function.name,
                tool.function.description or "",
                msgspec.convert(schema, Object),
            )
        )
    return tuple(found)


def _check_function(function: FunctionDefinition, where: str) -> None:
    if not TOOL_NAME.fullmatch(function.name):
        raise Refused(
            f"Invalid '{where}.name': string does not match pattern. Expected a string that "
            "matches the pattern '^[a-zA-Z0-9_-]+$' of at most 64 characters.",
            field=f"{where}.name",
            code="invalid_value",
        )
    if function.parameters is None:
        return
    if wrong := schema_error(function.parameters) or (
        strictness_error(function.parameters) if function.strict else None
    ):
        raise Refused(
            f"Invalid schema for function '{function.name}': {wrong}.",
            field=f"{where}.parameters",
            code="invalid_function_parameters",
        )
