"""What a request to OpenAI Responses may consist of."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

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


Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class _Strict(Struct, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    pass


class InputText(_Strict, tag="input_text"):
    text: str
    prompt_cache_breakpoint: Object | None = None


class InputImage(_Strict, tag="input_image"):
    detail: Literal["auto", "low", "high", "original"] | None = None
    file_id: str | None = None
    image_url: str | None = None
    prompt_cache_breakpoint: Object | None = None


class InputFile(_Strict, tag="input_file"):
    detail: Literal["auto", "low", "high"] | None = None
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: Object | None = None


class OutputText(_Strict, tag="output_text"):
    text: str
    annotations: list[Object] = []
    logprobs: list[Object] | None = None


class OutputRefusal(_Strict, tag="refusal"):
    refusal: str


Content: TypeAlias = InputText | InputImage | InputFile | OutputText | OutputRefusal


ResultContent: TypeAlias = InputText | InputImage | InputFile


class Message(_Strict, tag="message"):
    """In all its three forms: easy, input, and output (which has an id)."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Content]
    id: str | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    status: Status | None = None


class FunctionCall(_Strict, tag="function_call"):
    arguments: str
    call_id: str
    name: str
    id: str | None = None
    async_: bool | None = msgspec.field(name="async", default=None)
    caller: Object | None = None
    namespace: str | None = None
    status: Status | None = None


class FunctionCallOutput(_Strict, tag="function_call_output"):
    call_id: str
    output: str | list[ResultContent]
    id: str | None = None
    caller: Object | None = None
    name: str | None = None
    namespace: str | None = None
    status: Status | None = None


class CustomToolCall(_Strict, tag="custom_tool_call"):
    call_id: str
    input: str
    name: str
    id: str | None = None
    async_: bool | None = msgspec.field(name="async", default=None)
    caller: Object | None = None
    namespace: str | None = None


class CustomToolCallOutput(_Strict, tag="custom_tool_call_output"):
    call_id: str
    output: str | list[ResultContent]
    id: str | None = None
    caller: Object | None = None


class ComputerCall(_Strict, tag="computer_call"):
    id: str
    call_id: str
    pending_safety_checks: list[Object] = []
    status: Status | None = None
    action: Object | None = None
    actions: list[Object] | None = None


class ComputerCallOutput(_Strict, tag="computer_call_output"):
    call_id: str
    output: Object
    id: str | None = None
    acknowledged_safety_checks: list[Object] | None = None
    status: Status | None = None


class SummaryText(_Strict, tag="summary_text"):
    text: str


class ReasoningText(_Strict, tag="reasoning_text"):
    text: str


class ReasoningItem(_Strict, tag="reasoning"):
    id: str
    summary: list[SummaryText]
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class WebSearchCall(_Strict, tag="web_search_call"):
    id: str
    action: Object
    status: Literal["in_progress", "searching", "completed", "failed"]


class ItemReference(_Strict, tag="item_reference"):
    id: str


# Known, but the fakes have no rules for them.
class FileSearchCall(_Strict, tag="file_search_call"):
    id: str
    queries: list[str]
    status: str
    results: object = None


class ToolSearchCall(_Strict, tag="tool_search_call"):
    arguments: object
    call_id: str | None = None
    execution: str | None = None
    id: str | None = None
    status: Status | None = None


class ToolSearchOutput(_Strict, tag="tool_search_output"):
    tools: list[Object]
    call_id: str | None = None
    execution: str | None = None
    id: str | None = None
    status: Status | None = None


class AdditionalTools(_Strict, tag="additional_tools"):
    role: str
    tools: list[Object]
    id: str | None = None


class ConfigurationUpdate(_Strict, tag="configuration_update"):
    id: str | None = None
    reasoning: Object | None = None
    text: Object | None = None


class Compaction(_Strict, tag="compaction"):
    encrypted_content: str
    id: str | None = None


class CompactionTrigger(_Strict, tag="compaction_trigger"):
    id: str | None = None


class CodeInterpreterCall(_Strict, tag="code_interpreter_call"):
    id: str
    code: str | None
    container_id: str
    outputs: object
    status: str


class ImageGenerationCall(_Strict, tag="image_generation_call"):
    id: str
    result: str | None
    status: str
    action: object = None
    background: object = None
    error: object = None
    output_format: object = None
    quality: object = None
    revised_prompt: object = None
    size: object = None
    svg_usage: object = None


class McpListTools(_Strict, tag="mcp_list_tools"):
    id: str
    server_label: str
    tools: list[Object]
    error: object = None


class McpCall(_Strict, tag="mcp_call"):
    id: str
    arguments: str
    name: str
    server_label: str
    approval_request_id: str | None = None
    error: object = None
    output: str | None = None
    status: str | None = None


Item: TypeAlias = (
    Message
    | FunctionCall
    | FunctionCallOutput
    | CustomToolCall
    | CustomToolCallOutput
    | ComputerCall
    | ComputerCallOutput
    | ReasoningItem
    | WebSearchCall
    | ItemReference
    | FileSearchCall
    | ToolSearchCall
    | ToolSearchOutput
    | AdditionalTools
    | ConfigurationUpdate
    | Compaction
    | CompactionTrigger
    | CodeInterpreterCall
    | ImageGenerationCall
    | McpListTools
    | McpCall
)


class ReasoningConfig(Struct, forbid_unknown_fields=True):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: str | None = None
    mode: Literal["standard", "pro"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_obfuscation: bool | None = None


class Request(Struct, forbid_unknown_fields=True):
    model: str
    input: Raw | UnsetType = UNSET
    stream: bool | None = None
    instructions: str | None = None
    tools: Raw | UnsetType = UNSET
    tool_choice: Literal["none", "auto", "required"] | Object | None = None
    store: bool | None = None
    include: list[str] | None = None
    reasoning: ReasoningConfig | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    conversation: str | Object | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    truncation: Literal["auto", "disabled"] | None = None
    text: Object | None = None
    metadata: dict[str, str] | None = None
    access_programs: object = None
    background: bool | None = None
    background_options: object = None
    context_management: list[Object] | None = None
    image: object = None
    moderation: object = None
    prompt: Object | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Object | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    user: str | None = None


class FunctionTool(_Strict, tag="function"):
    name: str
    parameters: Any = None  # JSON of any shape: the check says what is wrong with it
    strict: bool | None = None
    description: str | None = None
    allowed_callers: list[str] | None = None
    async_: bool | None = msgspec.field(name="async", default=None)
    defer_loading: bool | None = None
    output_schema: Object | None = None


class CustomTool(_Strict, tag="custom"):
    name: str
    description: str | None = None
    format: Object | None = None
    allowed_callers: list[str] | None = None
    async_: bool | None = msgspec.field(name="async", default=None)
    defer_loading: bool | None = None


class SearchFilters(Struct, forbid_unknown_fields=True):
    allowed_domains: list[str] | None = None


class WebSearchTool(_Strict, tag="web_search"):
    external_web_access: bool | None = None
    filters: SearchFilters | None = None
    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: Object | None = None


class WebSearchTool20250826(WebSearchTool, tag="web_search_2025_08_26"):
    pass


class WebSearchPreviewTool(_Strict, tag="web_search_preview"):
    search_content_types: list[str] | None = None
    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: Object | None = None


class WebSearchPreviewTool20250311(WebSearchPreviewTool, tag="web_search_preview_2025_03_11"):
    pass


class ComputerTool(_Strict, tag="computer"):
    pass


class ComputerUsePreviewTool(_Strict, tag="computer_use_preview"):
    display_height: int
    display_width: int
    environment: str


class CodeInterpreterTool(_Strict, tag="code_interpreter"):
    container: str | Object
    allowed_callers: list[str] | None = None


class FileSearchTool(_Strict, tag="file_search"):
    vector_store_ids: list[str]
    filters: object = None
    max_num_results: int | None = None
    ranking_options: object = None


class McpTool(_Strict, tag="mcp"):
    server_label: str
    allowed_callers: object = None
    allowed_tools: object = None
    authorization: str | None = None
    connector_id: str | None = None
    defer_loading: bool | None = None
    headers: object = None
    require_approval: object = None
    server_description: str | None = None
    server_url: str | None = None
    tunnel_id: str | None = None


class LocalShellTool(_Strict, tag="local_shell"):
    pass


class ShellTool(_Strict, tag="shell"):
    allowed_callers: object = None
    environment: object = None


class ApplyPatchTool(_Strict, tag="apply_patch"):
    allowed_callers: object = None


class ToolSearchTool(_Strict, tag="tool_search"):
    description: str | None = None
    execution: str | None = None
    parameters: object = None


Tool: TypeAlias = (
    FunctionTool
    | CustomTool
    | WebSearchTool
    | WebSearchTool20250826
    | WebSearchPreviewTool
    | WebSearchPreviewTool20250311
    | ComputerTool
    | ComputerUsePreviewTool
    | CodeInterpreterTool
    | FileSearchTool
    | McpTool
    | LocalShellTool
    | ShellTool
    | ApplyPatchTool
    | ToolSearchTool
)


REQUEST: Final = msgspec.json.Decoder(Request)


_RAWS: Final = msgspec.json.Decoder(list[Raw])


_ITEM: Final = msgspec.json.Decoder(Item)


_TOOL: Final = msgspec.json.Decoder(Tool)


@lru_cache(maxsize=256)
def viewed_tools(raw: bytes) -> tuple[ViewedTool, ...]:
    try:
        each = _RAWS.decode(raw)
    except msgspec.ValidationError as error:
        raise describe(problem(error).under("tools")) from error
    return tuple(_tool(bytes(one), index) for index, one in enumerate(each))


def _tool(raw: bytes, index: int) -> ViewedTool:
    try:
        tool = _TOOL.decode(raw)
    except msgspec.ValidationError as error:
        raise describe(problem(error).under("tools", index), raw) from error
    if isinstance(tool, FunctionTool):
        _check_function(tool, f"tools[{index}]")
        schema: JsonValue = tool.parameters or {"type": "object", "properties": {}}
        return ViewedTool(tool.name, tool.description or "", msgspec.convert(schema, Object))
    if isinstance(tool, CustomTool):
        return ViewedTool(tool.name, tool.description or "", {})
    hosted = str(tool.__struct_config__.tag)
    return ViewedTool(hosted, "", {}, hosted)


def _check_function(tool: FunctionTool, where: str) -> None:
    if not TOOL_NAME.fullmatch(tool.name):
        raise Refused(
            f"Invalid '{where}.name': string does not match pattern. Expected a string that "
            "matches the pattern '^[a-zA-Z0-9_-]+$' of at most 64 characters.",
            field=f"{where}.name",
            code="invalid_value",
        )
    if tool.parameters is None:
        return
    if wrong := schema_error(tool.parameters) or (
        strictness_error(tool.parameters) if tool.strict else None
    ):
        raise Refused(
            f"Invalid schema for function '{tool.name}': {wrong}.",
            field=f"{where}.parameters",
            code="invalid_function_parameters",
        )


def raw_items(body: Request) -> list[bytes]:
    """The items of the input as they came; a text is a user message."""
    if body.input is UNSET:
        raise Refused(
            "Missing required parameter: 'input'.", field="input", code="missing_required_parameter"
        )
    raw = bytes(body.input)
    if raw.startswith(b'"'):
        return [b'{"type":"message","role":"user","content":%b}' % raw]
    try:
        return [bytes(one) for one in _RAWS.decode(raw)]
    except msgspec.ValidationError as error:
        raise describe(problem(error).under("input")) from error


def items_of(raws: list[bytes]) -> list[Item]:
    return [_item(one, index) for index, one in enumerate(raws)]


def _item(raw: bytes, index: int) -> Item:
    try:
        return _ITEM.decode(raw)
    except msgspec.ValidationError as error:
        found = problem(error)
        if found.what != "missing" or found.path != ("type",):
            raise describe(found.under("input", index), raw) from error
    # Messages may leave their type out.
    plain = msgspec.json.decode(raw, type=Object)
    try:
        return msgspec.convert({"type": "message", **plain}, Message)
    except msgspec.ValidationError as error:
        raise describe(problem(error).under("input", index), raw) from error
