"""The fields that the fakes know are those that the SDKs know: neither too few nor too many."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, Final, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import fakes.anthropic_request as anthropic_request
import fakes.chat_request as chat_request
import fakes.gemini_request as gemini_request
import fakes.responses_request as responses_request
import msgspec
import pytest
from anthropic.types import (
    ContentBlockParam,
    OutputConfigParam,
    ThinkingConfigParam,
    ToolChoiceParam,
    ToolUnionParam,
    message_create_params,
)
from anthropic.types.beta import message_create_params as beta_create_params
from google.genai import types as google
from openai.types.chat import (
    ChatCompletionContentPartParam,
    ChatCompletionMessageParam,
    completion_create_params,
)
from openai.types.responses import (
    ResponseInputContentParam,
    ResponseInputItemParam,
    ToolParam,
    response_create_params,
)

# Types as values: the typing module itself has no better word for them.
Form = Any


def members(form: Form) -> Iterator[Form]:
    if get_origin(form) in (Union, UnionType):
        for one in get_args(form):
            yield from members(one)
    elif form is not type(None):
        yield form


def tags(hint: Form) -> list[str]:
    while get_origin(hint) in (Required, NotRequired):
        (hint,) = get_args(hint)
    return [value for one in members(hint) for value in get_args(one) if isinstance(value, str)]


def sdk_fields(union: Form, tag: str = "type") -> dict[str, set[str]]:
    """The fields of every typed dict of a union, by tag; several with one tag are put together."""
    found: dict[str, set[str]] = {}
    for one in members(union):
        if hasattr(one, "__required_keys__"):
            hints = get_type_hints(one, include_extras=True)
            for name in tags(hints[tag]):
                found.setdefault(name, set()).update(hints)
    return found


def our_fields(union: Form) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in members(union):
        config = one.__struct_config__
        names = {field.encode_name for field in msgspec.structs.fields(one)}
        if config.forbid_unknown_fields:
            found[str(config.tag)] = names | {str(config.tag_field)}
    return found


def plain(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


# What we take although the SDK does not name it, and what we leave out on purpose.
MORE: Final[dict[str, set[str]]] = {
    # Only in the beta types.
    "enabled": {"block_binding"},
    "adaptive": {"block_binding"},
    # Compatible servers take caching marks, and give back what they streamed.
    "text": {"cache_control"},
    "image_url": {"cache_control"},
    "file": {"cache_control"},
    "assistant": {"annotations", "reasoning", "reasoning_content", "reasoning_details"},
    "tool": {"name"},
}
UNKNOWN_ITEMS: Final = {
    "apply_patch_call",
    "apply_patch_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
}
UNKNOWN_TOOLS: Final = {"image_generation", "namespace", "programmatic_tool_calling"}
ALIASES: Final = {"tool_search_tool_bm25", "tool_search_tool_regex"}

UNIONS: Final[dict[str, tuple[Form, Form, str, set[str]]]] = {
    "anthropic blocks": (anthropic_request.Block, ContentBlockParam, "type", set()),
    "anthropic tools": (anthropic_request.Tool, ToolUnionParam, "type", ALIASES),
    "anthropic tool choice": (anthropic_request.ToolChoice, ToolChoiceParam, "type", set()),
    "anthropic thinking": (anthropic_request.Thinking, ThinkingConfigParam, "type", set()),
    "responses items": (responses_request.Item, ResponseInputItemParam, "type", UNKNOWN_ITEMS),
    "responses content": (
        responses_request.ResultContent,
        ResponseInputContentParam,
        "type",
        set(),
    ),
    "responses tools": (responses_request.Tool, ToolParam, "type", UNKNOWN_TOOLS),
    "chat messages": (chat_request.Message, ChatCompletionMessageParam, "role", set()),
    "chat parts": (chat_request.Part, ChatCompletionContentPartParam, "type", set()),
}


@pytest.mark.parametrize("name", UNIONS)
def test_tagged_types_have_the_fields_of_the_sdk(name: str) -> None:
    ours, theirs, tag, unknown = UNIONS[name]
    known = sdk_fields(theirs, tag)
    found = our_fields(ours)

    assert set(known) - set(found) == unknown
    extra = {key: found[key] - known.get(key, set()) for key in found}
    allowed = MORE if name.startswith("chat") or name == "anthropic thinking" else {}
    assert {key: more for key, more in extra.items() if more - allowed.get(key, set())} == {}
    missing = {key: known[key] - found[key] for key in found if key in known}
    assert {key: names for key, names in missing.items() if names} == {}


def test_top_level_fields_are_those_of_the_sdk() -> None:
    def named(typed: Form) -> set[str]:
        return set(get_type_hints(typed))

    ga = named(message_create_params.MessageCreateParamsBase)
    beta = named(beta_create_params.MessageCreateParamsBase)
    sampling = {"temperature", "top_p", "top_k"}
    # `betas` travels as a header.
    assert plain(anthropic_request.Request) == ga | beta - {"betas"} | sampling | {"stream"}
    effort = {"task_budget"}
    assert plain(anthropic_request.OutputConfig) == named(OutputConfigParam) | effort
    assert plain(responses_request.Request) == named(
        response_create_params.ResponseCreateParamsBase
    ) | {"stream"}
    known = named(completion_create_params.CompletionCreateParamsBase) | {"stream"}
    assert plain(chat_request.Request) == known | set(chat_request.FOREIGN)


# Sent by other products, or to Vertex alone.
GEMINI: Final[dict[type[msgspec.Struct], Form]] = {
    gemini_request.Part: google.Part,
    gemini_request.Content: google.Content,
    gemini_request.Blob: google.Blob,
    gemini_request.FileData: google.FileData,
    gemini_request.FunctionCall: google.FunctionCall,
    gemini_request.FunctionResponse: google.FunctionResponse,
    gemini_request.FunctionDeclaration: google.FunctionDeclaration,
    gemini_request.Tool: google.Tool,
    gemini_request.ToolConfig: google.ToolConfig,
    gemini_request.ThinkingConfig: google.ThinkingConfig,
}


@pytest.mark.parametrize("ours", GEMINI)
def test_gemini_has_no_fields_of_its_own(ours: type[msgspec.Struct]) -> None:
    names = {field.name for field in msgspec.structs.fields(ours)}

    assert names <= set(GEMINI[ours].model_fields)
