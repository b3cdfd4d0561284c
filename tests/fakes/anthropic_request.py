"""What a request to Anthropic Messages may consist of."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from fakes.script import (
    ViewedTool,
)
from fakes.wire import (
    Problem,
    Refused,
    encode,
    problem,
    schema_error,
)

Object: TypeAlias = dict[str, object]


class CacheControl(Struct, forbid_unknown_fields=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Strict(Struct, forbid_unknown_fields=True, tag_field="type"):
    pass


class Cached(_Strict):
    cache_control: CacheControl | None = None


class TextBlock(Cached, tag="text"):
    text: str = ""
    citations: list[Object] | None = None


class ImageBlock(Cached, kw_only=True, tag="image"):
    source: Object
    transformations: Object | None = None


class DocumentBlock(Cached, kw_only=True, tag="document"):
    source: Object
    citations: Object | None = None
    context: str | None = None
    title: str | None = None


class SearchResultBlock(Cached, kw_only=True, tag="search_result"):
    content: list[Object]
    source: str
    title: str
    citations: Object | None = None


class ThinkingBlock(_Strict, tag="thinking"):
    thinking: str
    signature: str


class RedactedThinkingBlock(_Strict, tag="redacted_thinking"):
    data: str


class ToolUseBlock(Cached, kw_only=True, tag="tool_use"):
    id: str
    name: str
    input: Object
    caller: Object | None = None
    toolset_name: str | None = None


class ToolReferenceBlock(Cached, kw_only=True, tag="tool_reference"):
    tool_name: str


class BrowserStateBlock(Cached, kw_only=True, tag="browser_state"):
    tabs: list[Object]
    state_changes: list[Object] | None = None


ResultContent: TypeAlias = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolReferenceBlock
    | BrowserStateBlock
)


class ToolResultBlock(Cached, kw_only=True, tag="tool_result"):
    tool_use_id: str
    content: str | list[ResultContent] | None = None
    is_error: bool | None = None
    toolset_name: str | None = None


class ServerToolUseBlock(Cached, kw_only=True, tag="server_tool_use"):
    id: str
    name: str
    input: Object
    caller: Object | None = None


class _ServerResult(Cached, kw_only=True):
    tool_use_id: str
    content: Object | list[Object]


class WebSearchResultBlock(_ServerResult, kw_only=True, tag="web_search_tool_result"):
    caller: Object | None = None


class WebFetchResultBlock(_ServerResult, kw_only=True, tag="web_fetch_tool_result"):
    caller: Object | None = None


class CodeExecutionResultBlock(_ServerResult, kw_only=True, tag="code_execution_tool_result"):
    pass


class BashResultBlock(_ServerResult, kw_only=True, tag="bash_code_execution_tool_result"):
    pass


class EditorResultBlock(_ServerResult, kw_only=True, tag="text_editor_code_execution_tool_result"):
    pass


class ToolSearchResultBlock(_ServerResult, kw_only=True, tag="tool_search_tool_result"):
    pass


class ContainerUploadBlock(Cached, kw_only=True, tag="container_upload"):
    file_id: str


# Known only with an `anthropic-beta` header; their fields change too often to be pinned here.
class CompactionBlock(Struct, tag_field="type", tag="compaction"):
    pass


class FallbackBlock(Struct, tag_field="type", tag="fallback"):
    pass


class McpToolUseBlock(Struct, tag_field="type", tag="mcp_tool_use"):
    pass


class McpToolResultBlock(Struct, tag_field="type", tag="mcp_tool_result"):
    pass


class McpToolListingBlock(Struct, tag_field="type", tag="mcp_tool_listing"):
    pass


class AdvisorResultBlock(Struct, tag_field="type", tag="advisor_tool_result"):
    pass


class ToolAdditionBlock(Struct, tag_field="type", tag="tool_addition"):
    pass


class ToolRemovalBlock(Struct, tag_field="type", tag="tool_removal"):
    pass


Beta: TypeAlias = (
    CompactionBlock
    | FallbackBlock
    | McpToolUseBlock
    | McpToolResultBlock
    | McpToolListingBlock
    | AdvisorResultBlock
    | ToolAdditionBlock
    | ToolRemovalBlock
)


ServerResult: TypeAlias = (
    WebSearchResultBlock
    | WebFetchResultBlock
    | CodeExecutionResultBlock
    | BashResultBlock
    | EditorResultBlock
    | ToolSearchResultBlock
)


Block: TypeAlias = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | ServerToolUseBlock
    | ServerResult
    | ContainerUploadBlock
    | Beta
)


class Message(Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]
    clear_at: object = UNSET
    output_config: object = UNSET


class ThinkingEnabled(_Strict, tag="enabled"):
    budget_tokens: int
    display: Literal["summarized", "omitted", "updates"] | None = None
    block_binding: object = UNSET


class ThinkingAdaptive(_Strict, tag="adaptive"):
    display: Literal["summarized", "omitted", "updates"] | None = None
    block_binding: object = UNSET


class ThinkingBetweenTools(_Strict, tag="between_tools"):
    pass


class ThinkingDisabled(_Strict, tag="disabled"):
    pass


Thinking: TypeAlias = ThinkingEnabled | ThinkingAdaptive | ThinkingBetweenTools | ThinkingDisabled


class OutputConfig(Struct, forbid_unknown_fields=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Object | None = None
    task_budget: object = UNSET


class ChoiceAuto(_Strict, tag="auto"):
    disable_parallel_tool_use: bool = False


class ChoiceAny(_Strict, tag="any"):
    disable_parallel_tool_use: bool = False


class ChoiceTool(_Strict, kw_only=True, tag="tool"):
    name: str
    disable_parallel_tool_use: bool = False


class ChoiceNone(_Strict, tag="none"):
    pass


ToolChoice: TypeAlias = ChoiceAuto | ChoiceAny | ChoiceTool | ChoiceNone


class Metadata(Struct, forbid_unknown_fields=True):
    user_id: str | None = None


class Request(Struct, forbid_unknown_fields=True):
    model: str
    messages: list[Message]
    max_tokens: int
    stream: bool = False
    system: str | list[TextBlock] | None = None
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    metadata: Metadata | None = None
    stop_sequences: list[str] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    cache_control: CacheControl | None = None
    container: object = None
    diagnostics: object = None
    inference_geo: str | None = None
    speed: str | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
    # With an `anthropic-beta` header alone.
    billing_policy: object = UNSET
    compaction: object = UNSET
    context_management: object = UNSET
    fallback_credit_token: object = UNSET
    fallbacks: object = UNSET
    mcp_servers: object = UNSET
    thread: object = UNSET


BETA_FIELDS: Final = (
    "billing_policy",
    "compaction",
    "context_management",
    "fallback_credit_token",
    "fallbacks",
    "mcp_servers",
    "thread",
)


class CustomTool(Cached, kw_only=True, tag="custom"):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    input_schema: Any  # JSON of any shape: the check says what is wrong with it
    description: str | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: list[Object] | None = None
    allowed_callers: list[str] | None = None


class _ServerTool(Cached, kw_only=True):
    name: str
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    strict: bool | None = None


class _ClientTool(_ServerTool, kw_only=True):
    input_examples: list[Object] | None = None


class _SearchTool(_ServerTool, kw_only=True):
    # "web_search" and nothing else.
    name: Annotated[str, Meta(pattern="^web_search$")]
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    max_uses: int | None = None
    user_location: Object | None = None


class WebSearch20250305(_SearchTool, kw_only=True, tag="web_search_20250305"):
    pass


class WebSearch20260209(_SearchTool, kw_only=True, tag="web_search_20260209"):
    pass


class WebSearch20260318(_SearchTool, kw_only=True, tag="web_search_20260318"):
    response_inclusion: str | None = None


class _FetchTool(_ServerTool, kw_only=True):
    # "web_fetch" and nothing else.
    name: Annotated[str, Meta(pattern="^web_fetch$")]
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    citations: Object | None = None
    max_content_tokens: int | None = None
    max_uses: int | None = None
    url_sources: object = None


class WebFetch20250910(_FetchTool, kw_only=True, tag="web_fetch_20250910"):
    pass


class WebFetch20260209(_FetchTool, kw_only=True, tag="web_fetch_20260209"):
    pass


class WebFetch20260309(_FetchTool, kw_only=True, tag="web_fetch_20260309"):
    use_cache: bool | None = None


class WebFetch20260318(_FetchTool, kw_only=True, tag="web_fetch_20260318"):
    use_cache: bool | None = None
    response_inclusion: str | None = None


class CodeExecution20250522(_ServerTool, kw_only=True, tag="code_execution_20250522"):
    pass


class CodeExecution20250825(_ServerTool, kw_only=True, tag="code_execution_20250825"):
    pass


class CodeExecution20260120(_ServerTool, kw_only=True, tag="code_execution_20260120"):
    pass


class CodeExecution20260521(_ServerTool, kw_only=True, tag="code_execution_20260521"):
    pass


class Bash20250124(_ClientTool, kw_only=True, tag="bash_20250124"):
    pass


class Memory20250818(_ClientTool, kw_only=True, tag="memory_20250818"):
    pass


class TextEditor20250124(_ClientTool, kw_only=True, tag="text_editor_20250124"):
    pass


class TextEditor20250429(_ClientTool, kw_only=True, tag="text_editor_20250429"):
    pass


class TextEditor20250728(_ClientTool, kw_only=True, tag="text_editor_20250728"):
    max_characters: int | None = None


class ToolSearchBm25(_ServerTool, kw_only=True, tag="tool_search_tool_bm25_20251119"):
    pass


class ToolSearchRegex(_ServerTool, kw_only=True, tag="tool_search_tool_regex_20251119"):
    pass


class BrowserToolset(Cached, kw_only=True, tag="browser_toolset_20260801"):
    configs: Object | None = None


class _Computer(_ClientTool, kw_only=True):
    name: Annotated[str, Meta(pattern="^computer$")]
    display_width_px: int
    display_height_px: int
    display_number: int | None = None


class Computer20241022(_Computer, kw_only=True, tag="computer_20241022"):
    pass


class Computer20250124(_Computer, kw_only=True, tag="computer_20250124"):
    pass


class Computer20251124(_Computer, kw_only=True, tag="computer_20251124"):
    enable_zoom: bool | None = None


class ComputerToolset(Cached, kw_only=True, tag="computer_toolset_20260801"):
    configs: Object | None = None


Tool: TypeAlias = (
    CustomTool
    | WebSearch20250305
    | WebSearch20260209
    | WebSearch20260318
    | WebFetch20250910
    | WebFetch20260209
    | WebFetch20260309
    | WebFetch20260318
    | CodeExecution20250522
    | CodeExecution20250825
    | CodeExecution20260120
    | CodeExecution20260521
    | Bash20250124
    | Memory20250818
    | TextEditor20250124
    | TextEditor20250429
    | TextEditor20250728
    | ToolSearchBm25
    | ToolSearchRegex
    | BrowserToolset
    | ComputerToolset
)


# With an `anthropic-beta` header alone.
OldComputer: TypeAlias = Computer20241022 | Computer20250124 | Computer20251124


REQUEST: Final = msgspec.json.Decoder(Request)


_RAW_LIST: Final = msgspec.json.Decoder(list[Raw])


_TOOL: Final = msgspec.json.Decoder(Tool)


_OLD_COMPUTER: Final = msgspec.json.Decoder(OldComputer)


_TYPED: Final = msgspec.json.Decoder(dict[str, Raw])


_OLD_COMPUTER_TOOL: Final = re.compile(r"computer_(20\d{2})(\d{2})(\d{2})")


# Claude 5.5 and later know the toolset alone.
_TOOLSET_ONLY: Final = re.compile(r"claude-[a-z]+-(?:5-[5-9]|[6-9])")


BETA_BLOCKS: Final = (
    CompactionBlock,
    FallbackBlock,
    McpToolUseBlock,
    McpToolResultBlock,
    McpToolListingBlock,
    AdvisorResultBlock,
    ToolAdditionBlock,
    ToolRemovalBlock,
)


SERVER_RESULTS: Final = (
    WebSearchResultBlock,
    WebFetchResultBlock,
    CodeExecutionResultBlock,
    BashResultBlock,
    EditorResultBlock,
    ToolSearchResultBlock,
)


ASSISTANT_ONLY: Final = (
    ThinkingBlock,
    RedactedThinkingBlock,
    ToolUseBlock,
    ServerToolUseBlock,
    *SERVER_RESULTS,
)


def _describe(found: Problem) -> str:
    """The words of the real API, which speaks pydantic."""
    if found.what == "unknown":
        return f"{found.dotted()}: Extra inputs are not permitted"
    if found.what == "missing":
        return f"{found.dotted()}: Field required"
    if found.what == "value":
        return (
            f"{found.dotted()}: Input tag or value {found.name!r} is not one of the expected ones"
        )
    return f"{found.dotted()}: {found.text}"


def refusal_of(found: Problem) -> Refused:
    return Refused(_describe(found), field=found.dotted())


@lru_cache(maxsize=256)
def viewed_tools(
    raw: bytes, betas: tuple[str, ...] = (), model: str = ""
) -> tuple[ViewedTool, ...]:
    try:
        each = _RAW_LIST.decode(raw)
    except msgspec.ValidationError as error:
        raise refusal_of(problem(error).under("tools")) from error
    found = tuple(_tool(bytes(one), index, betas, model) for index, one in enumerate(each))
    names = [tool.name for tool in found]
    if len(set(names)) != len(names):
        raise Refused("tools: Tool names must be unique.", field="tools")
    return found


def _is_old_computer(kind: str, index: int, betas: tuple[str, ...], model: str) -> bool:
    """Older versions of the computer tool: with their own beta, and not for every model."""
    match = _OLD_COMPUTER_TOOL.search(kind)
    if match is None:
        return False
    if "computer-use-" + "-".join(match.groups()) not in betas:
        raise Refused(
            f"tools.{index}: Input tag {kind} needs the beta endpoint", field=f"tools.{index}.type"
        )
    if _TOOLSET_ONLY.match(model):
        raise Refused(f"'{model}' does not support tool types: {kind}", field=f"tools.{index}.type")
    return True


def _tool(raw: bytes, index: int, betas: tuple[str, ...], model: str) -> ViewedTool:
    try:
        kind = _TYPED.decode(raw).get("type")
        if kind is None or bytes(kind) == b"null":
            # Tools without a type are custom ones.
            raw = encode({**msgspec.json.decode(raw, type=Object), "type": "custom"})
        elif _is_old_computer(bytes(kind).decode(), index, betas, model):
            old = _OLD_COMPUTER.decode(raw)
            return ViewedTool(old.name, "", {}, str(old.__struct_config__.tag))
        tool = _TOOL.decode(raw)
    except msgspec.ValidationError as error:
        raise refusal_of(problem(error).under("tools", index)) from error
    if isinstance(tool, CustomTool):
        if wrong := schema_error(tool.input_schema):
            raise Refused(
                f"tools.{index}.custom.input_schema: JSON schema is invalid: {wrong}",
                field=f"tools.{index}.custom.input_schema",
            )
        schema = msgspec.convert(tool.input_schema, Object)
        return ViewedTool(tool.name, tool.description or "", schema)
    hosted = str(tool.__struct_config__.tag)
    if isinstance(tool, _SearchTool | _FetchTool) and tool.allowed_domains and tool.blocked_domains:
        raise Refused(
            f"tools.{index}: Only one of allowed_domains or blocked_domains can be specified",
            field=f"tools.{index}.blocked_domains",
        )
    if isinstance(tool, BrowserToolset | ComputerToolset):
        return ViewedTool(hosted, "", {}, hosted)
    return ViewedTool(tool.name, "", {}, hosted)
