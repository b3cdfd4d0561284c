"""What a request to Gemini may consist of."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from fakes.script import (
    ViewedTool,
)
from fakes.wire import (
    JsonValue,
    Problem,
    Refused,
    problem,
    schema_error,
)

Object: TypeAlias = dict[str, object]


class _Strict(Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    pass


class Blob(_Strict):
    mime_type: str
    data: str
    display_name: str | None = None


class FileData(_Strict):
    file_uri: str
    mime_type: str | None = None
    display_name: str | None = None


class FunctionCall(_Strict):
    name: str
    args: Object | None = None
    id: str | None = None


class FunctionResponsePart(_Strict):
    inline_data: Blob | None = None
    file_data: FileData | None = None


class FunctionResponse(_Strict):
    name: str
    response: Object
    id: str | None = None
    parts: list[FunctionResponsePart] | None = None
    scheduling: str | None = None
    will_continue: bool | None = None


class Part(_Strict):
    text: str | UnsetType = UNSET
    thought: bool = False
    thought_signature: str | None = None
    function_call: FunctionCall | UnsetType = UNSET
    function_response: FunctionResponse | UnsetType = UNSET
    inline_data: Blob | UnsetType = UNSET
    file_data: FileData | UnsetType = UNSET
    executable_code: Object | UnsetType = UNSET
    code_execution_result: Object | UnsetType = UNSET
    tool_call: Object | UnsetType = UNSET
    tool_response: Object | UnsetType = UNSET
    media_resolution: object = None
    video_metadata: object = None
    part_metadata: object = None


# Exactly one of these makes a part.
DATA: Final = (
    "text",
    "function_call",
    "function_response",
    "inline_data",
    "file_data",
    "executable_code",
    "code_execution_result",
    "tool_call",
    "tool_response",
)


class Content(_Strict):
    parts: list[Part] = []
    role: str | None = None


class FunctionDeclaration(_Strict):
    name: str
    description: str | None = None
    parameters: Any = None  # JSON of any shape: the check says what is wrong with it
    parameters_json_schema: Any = None  # the same
    response: object = None
    response_json_schema: object = None
    behavior: str | None = None


class GoogleSearch(_Strict):
    search_types: object = None
    time_range_filter: object = None


class Tool(_Strict):
    function_declarations: list[FunctionDeclaration] | None = None
    google_search: GoogleSearch | None = None
    google_search_retrieval: object = None
    code_execution: object = None
    url_context: object = None
    computer_use: object = None
    google_maps: object = None
    file_search: object = None
    mcp_servers: object = None


class FunctionCallingConfig(_Strict):
    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"] | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(_Strict):
    function_calling_config: FunctionCallingConfig | None = None
    include_server_side_tool_invocations: bool | None = None
    retrieval_config: object = None


class ThinkingConfig(_Strict):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"] | None = None


class GenerationConfig(_Strict):
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    response_logprobs: bool | None = None
    response_mime_type: str | None = None
    response_schema: object = None
    response_json_schema: object = None
    response_modalities: list[str] | None = None
    response_format: object = None
    media_resolution: str | None = None
    speech_config: object = None
    image_config: object = None
    routing_config: object = None
    thinking_config: ThinkingConfig | None = None
    enable_enhanced_civic_answers: bool | None = None
    audio_timestamp: bool | None = None
    model_config: object = None
    audio_transcription_config: object = None


class Request(_Strict):
    contents: list[Content] | UnsetType = UNSET
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    safety_settings: list[Object] | None = None
    cached_content: str | None = None
    labels: dict[str, str] | None = None
    service_tier: str | None = None
    store: bool | None = None
    continuation_token: str | None = None
    model: str | None = None


_REQUEST: Final = msgspec.json.Decoder(Request)


_SNAKE: Final = re.compile(r"_([a-z0-9])")


_FUNCTION_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")


# What lies below these keys belongs to the caller.
_OPAQUE: Final = frozenset(
    (
        "args",
        "response",
        "parameters",
        "parametersJsonSchema",
        "responseJsonSchema",
        "responseSchema",
        "labels",
        "partMetadata",
    )
)


def camelised(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [camelised(one) for one in value]
    if not isinstance(value, dict):
        return value
    out: dict[str, JsonValue] = {}
    for key, inner in value.items():
        name = _SNAKE.sub(lambda match: match[1].upper(), key)
        out[name] = inner if name in _OPAQUE else camelised(inner)
    return out


def decode_request(raw: bytes) -> Request:
    try:
        return _REQUEST.decode(raw)
    except msgspec.ValidationError as error:
        if b"_" not in raw:
            raise _describe(problem(error)) from error
    # The API takes either spelling of a name, and the SDK mixes them.
    try:
        return msgspec.convert(camelised(msgspec.json.decode(raw)), Request)
    except msgspec.ValidationError as error:
        raise _describe(problem(error)) from error


def _describe(found: Problem) -> Refused:
    where = found.indexed()
    if found.what == "unknown":
        parent = Problem(found.path[:-1], "type", "", "").indexed()
        at = f" at '{parent}'" if parent else ""
        message = (
            f'Invalid JSON payload received. Unknown name "{found.name}"{at}: Cannot find field.'
        )
    elif found.what == "missing":
        message = f"* GenerateContentRequest.{where}: Name or value cannot be empty."
    else:
        message = f"Invalid value at '{where}': {found.text}"
    return Refused(message, field=where)


@lru_cache(maxsize=256)
def viewed_tools(raw: bytes) -> tuple[ViewedTool, ...]:
    found: list[ViewedTool] = []
    for index, tool in enumerate(msgspec.json.decode(raw, type=list[Tool])):
        for number, declared in enumerate(tool.function_declarations or ()):
            where = f"tools[{index}].functionDeclarations[{number}]"
            _check_declaration(declared, where)
            schema = declared.parameters_json_schema or declared.parameters or {"type": "object"}
            found.append(
                ViewedTool(
                    declared.name, declared.description or "", msgspec.convert(schema, Object)
                )
            )
        found += [
            ViewedTool(name, "", {}, name)
            for name in ("google_search", "code_execution", "url_context", "computer_use")
            if getattr(tool, name) is not None
        ]
    names = [tool.name for tool in found]
    if len(set(names)) != len(names):
        raise Refused("Duplicate function declaration found", field="tools")
    return tuple(found)


def _check_declaration(declared: FunctionDeclaration, where: str) -> None:
    if not _FUNCTION_NAME.fullmatch(declared.name):
        raise Refused(
            f"* GenerateContentRequest.{where}.name: Invalid function name. Must start with a "
            "letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots "
            "(.), colons (:) or dashes (-), with a maximum length of 64.",
            field=f"{where}.name",
        )
    if declared.parameters is not None and declared.parameters_json_schema is not None:
        raise Refused(
            f"* GenerateContentRequest.{where}: only one of parameters and parameters_json_schema "
            "may be set",
            field=where,
        )
    schema = declared.parameters_json_schema or declared.parameters
    if schema is not None and (wrong := schema_error(schema)):
        raise Refused(
            f"* GenerateContentRequest.{where}.parameters: {wrong}", field=f"{where}.parameters"
        )
