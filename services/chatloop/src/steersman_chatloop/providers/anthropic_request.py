"""A step as a request of Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from steersman_chatloop.providers import neutral
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin, WireIds, block, metadata_of
from steersman_chatloop.providers.neutral import CONTINUE
from steersman_contracts.chats import Message, Role
from steersman_contracts.parts import (
    JsonObject,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

FORMAT: Final = "anthropic"
ANTHROPIC_URL: Final = "https://api.anthropic.com"

_CACHE: Final[JsonObject] = {"cache_control": {"type": "ephemeral"}}
_UNCACHEABLE: Final = frozenset({"thinking", "redacted_thinking"})


def is_anthropic(access: ModelAccess) -> bool:
    """Say whether this is Anthropic itself and not a server that speaks its format."""
    host = urlsplit(access.base_url or ANTHROPIC_URL).hostname or ""
    return host == "anthropic.com" or host.endswith(".anthropic.com")


def to_request(request: StepRequest) -> JsonObject:
    """Build the body of the request."""
    access = request.model
    messages = list(request.messages)
    system = [request.system] if request.system.strip() else []
    # A conversation begins with a user message; what comes before it belongs to the prompt.
    while messages and messages[0].role is Role.SYSTEM:
        system.append(neutral.input_texts(messages.pop(0).parts))
    body: JsonObject = {
        "model": access.model_id,
        "max_tokens": access.max_output_tokens,
        "messages": _cached(_ended(list(_messages(messages, access)))),
        "stream": True,
    }
    if system:
        blocks: list[JsonObject] = [{"type": "text", "text": text} for text in system]
        blocks[-1] |= _CACHE
        body["system"] = blocks
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    return body


def _tool(tool: ToolSpec) -> JsonObject:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.input_schema,
    }


def _ended(messages: list[JsonObject]) -> list[JsonObject]:
    """End with input. A turn that was paused goes on by itself, if it ends in the paused work."""
    if messages and messages[-1]["role"] == "assistant":
        last: str = messages[-1]["content"][-1]["type"]
        if last != "server_tool_use" and not last.endswith("_tool_result"):
            messages.append({"role": "user", "content": [{"type": "text", "text": CONTINUE}]})
    return messages


def _cached(messages: list[JsonObject]) -> list[JsonObject]:
    """Mark the last two messages: the next request finds the prefix at one of the marks."""
    for at in range(max(0, len(messages) - 2), len(messages)):
        content: list[JsonObject] = list(messages[at]["content"])
        last = next(
            (i for i in reversed(range(len(content))) if content[i]["type"] not in _UNCACHEABLE),
            None,
        )
        if last is not None:
            content[last] = content[last] | _CACHE
            messages[at] = messages[at] | {"content": content}
    return messages


def _messages(messages: Sequence[Message], access: ModelAccess) -> Iterator[JsonObject]:
    origin = Origin(FORMAT, access)
    ids = WireIds()
    for message in messages:
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        match message.role:
            case Role.USER:
                content = _input(message.parts)
            case Role.SYSTEM:
                text = neutral.input_texts(message.parts)
                if is_anthropic(access):
                    role = "system"
                else:  # other servers know two roles
                    text = f"<system>\n{text}\n</system>"
                content = [{"type": "text", "text": text}]
            case Role.ASSISTANT:
                content = list(_output(message.parts, origin, ids))
            case Role.TOOL:
                content = list(_results(message.parts, origin, ids))
        if content:
            yield {"role": role, "content": content}


def _input(parts: Sequence[Part]) -> list[JsonObject]:
    content: list[JsonObject] = []
    for part in parts:
        if (image := neutral.image(part)) is not None:
            content.append(_image(image))
        elif text := neutral.input_text(part):
            content.append({"type": "text", "text": text})
    return content


def _image(image: neutral.Image) -> JsonObject:
    source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    return {"type": "image", "source": source}


def _output(parts: Sequence[Part], origin: Origin, ids: WireIds) -> Iterator[JsonObject]:
    """The blocks of an assistant message: own ones as they came."""
    own_pairs = _own_pairs(parts, origin)
    for part in parts:
        match part:
            case TextPart():
                if part.text.strip():
                    own = _own(part, origin) or {"type": "text"}
                    yield own | {"text": part.text}
            case ReasoningPart():
                yield from _reasoning(part, origin)
            case ToolCallPart(provider_executed=False):
                own = _own(part, origin) or {"type": "tool_use"}
                wire_id = ids.call(part.call_id)
                yield own | {"id": wire_id, "name": part.tool, "input": part.arguments}
            case ToolCallPart() if part.call_id in own_pairs:
                yield (_own(part, origin) or {}) | {"input": part.arguments}
            case ToolResultPart(provider_executed=True) if part.call_id in own_pairs:
                yield _own(part, origin) or {}
            case SourcePart():
                pass
            case _:
                if text := neutral.flatten(part):
                    yield {"type": "text", "text": text}


def _own(part: Part, origin: Origin) -> JsonObject | None:
    """The block as it came, for every model of the account: only thinking is bound to one."""
    metadata = metadata_of(part)
    return block(metadata) if origin.wrote(metadata) else None


def _own_pairs(parts: Sequence[Part], origin: Origin) -> frozenset[str]:
    """Provider-executed calls whose blocks can go back; one without its result only at the end."""
    own = [part for part in parts if _own(part, origin) is not None]
    results = {part.call_id for part in own if isinstance(part, ToolResultPart)}
    last = parts[-1] if parts else None
    return frozenset(
        part.call_id
        for part in own
        if isinstance(part, ToolCallPart)
        and part.provider_executed
        and (part.call_id in results or part is last)
    )


def _reasoning(part: ReasoningPart, origin: Origin) -> Iterator[JsonObject]:
    native = origin.native(part.provider_metadata)
    if native is None:
        return
    # The text of thinking is stored once, in the part; blocks of other types have none.
    yield native | {"thinking": part.text} if native.get("type") == "thinking" else native


def _results(parts: Sequence[Part], origin: Origin, ids: WireIds) -> Iterator[JsonObject]:
    for part in parts:
        if not isinstance(part, ToolResultPart):
            continue
        text = neutral.result_text(part)
        images = [_image(image) for image in neutral.images(part)]
        content: str | list[JsonObject] = text if text.strip() else neutral.NO_OUTPUT
        if images:
            said: list[JsonObject] = [{"type": "text", "text": text}] if text.strip() else []
            content = [*said, *images]
        result: JsonObject = {
            "type": "tool_result",
            "tool_use_id": ids.result(part.call_id),
            "content": content,
        }
        if part.is_error:
            result["is_error"] = True
        yield result
