"""A step as a request of Chat Completions, for OpenAI itself and for compatible servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from steersman_chatloop.providers import neutral
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin, WireIds
from steersman_contracts.chats import Message, Role
from steersman_contracts.parts import (
    JsonObject,
    Part,
    ReasoningPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

FORMAT: Final = "openai-chat"
OPENAI_URL: Final = "https://api.openai.com/v1"

# OpenAI refuses longer ids of calls.
_MAX_ID: Final = 40

# Hosts that refuse a conversation whose reasoning is missing. Others ignore the field or refuse it.
_WANT_REASONING: Final = (
    "deepseek.com",
    "moonshot.ai",
    "moonshot.cn",
    "kimi.com",
    "z.ai",
    "bigmodel.cn",
)


class Dialect(msgspec.Struct, frozen=True):
    """What differs between servers of this wire format."""

    is_openai: bool
    new_limit_name: bool
    """`max_completion_tokens`: OpenAI's reasoning models take nothing else, others do not know
    it."""
    wants_reasoning: bool

    @classmethod
    def of(cls, access: ModelAccess) -> Dialect:
        """Tell the server by its address."""
        host = urlsplit(access.base_url or OPENAI_URL).hostname or ""
        return cls(
            is_openai=host == "api.openai.com",
            new_limit_name=host == "api.openai.com" or host.endswith(".openai.azure.com"),
            wants_reasoning=any(host == h or host.endswith(f".{h}") for h in _WANT_REASONING),
        )


def to_request(request: StepRequest) -> JsonObject:
    """Build the body of the request."""
    access = request.model
    dialect = Dialect.of(access)
    body: JsonObject = {
        "model": access.model_id,
        "messages": _ended(list(_messages(request, dialect))),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    limit = "max_completion_tokens" if dialect.new_limit_name else "max_tokens"
    body[limit] = min(access.max_output_tokens, access.context_limit or access.max_output_tokens)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if dialect.is_openai:
        body["prompt_cache_key"] = request.chat_id
    return body


def _ended(messages: list[JsonObject]) -> list[JsonObject]:
    """End with input: some servers would go on writing the last message."""
    if messages and messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": neutral.CONTINUE})
    return messages


def _tool(tool: ToolSpec) -> JsonObject:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.input_schema,
        },
    }


def _messages(request: StepRequest, dialect: Dialect) -> Iterator[JsonObject]:
    origin = Origin(FORMAT, request.model)
    ids = WireIds(_MAX_ID)
    if request.system.strip():
        yield {"role": "system", "content": request.system}
    for message in request.messages:
        match message.role:
            case Role.USER:
                if content := _content(message.parts):
                    yield {"role": "user", "content": content}
            case Role.SYSTEM:
                yield {"role": "system", "content": neutral.input_texts(message.parts)}
            case Role.ASSISTANT:
                yield from _assistant(message, origin, ids, dialect)
            case Role.TOOL:
                yield from _results(message, ids)


def _content(parts: Sequence[Part]) -> str | list[JsonObject]:
    """Plain text as long as there is only text: weak servers take nothing else."""
    blocks: list[JsonObject] = []
    texts: list[str] = []
    for part in parts:
        if (image := neutral.image(part)) is not None:
            blocks.append({"type": "image_url", "image_url": {"url": image.url}})
        elif text := neutral.input_text(part):
            texts.append(text)
            blocks.append({"type": "text", "text": text})
    return "\n\n".join(texts) if len(texts) == len(blocks) else blocks


def _assistant(
    message: Message, origin: Origin, ids: WireIds, dialect: Dialect
) -> Iterator[JsonObject]:
    own = origin.spoke(message)
    calls = [
        _call(part, origin, ids, own=own)
        for part in message.parts
        if isinstance(part, ToolCallPart) and not part.provider_executed
    ]
    text = neutral.joined(message.parts)
    if not text.strip() and not calls:
        return
    out: JsonObject = {"role": "assistant", "content": text or None}
    out |= _reasoning(message.parts, origin, dialect)
    if calls:
        out["tool_calls"] = calls
    yield out


def _call(part: ToolCallPart, origin: Origin, ids: WireIds, *, own: bool) -> JsonObject:
    # A server's own ids go back as they came: some models read a meaning into them.
    call_id = ids.keep(part.call_id) if own else ids.call(part.call_id)
    arguments = msgspec.json.encode(part.arguments).decode()
    call: JsonObject = {
        "id": call_id,
        "type": "function",
        "function": {"name": part.tool, "arguments": arguments},
    }
    extra = origin.native(part.provider_metadata)
    return call | extra if extra else call


def _reasoning(parts: Sequence[Part], origin: Origin, dialect: Dialect) -> JsonObject:
    """The reasoning of this server's own messages, in the field in which it came."""
    own = [
        (part, native)
        for part in parts
        if isinstance(part, ReasoningPart)
        and (native := origin.native(part.provider_metadata)) is not None
    ]
    details: list[Any] = []
    for _, native in own:
        details.extend(native.get("reasoning_details", ()))
    if details:
        return {"reasoning_details": details}
    if dialect.wants_reasoning:
        # Not empty: Kimi takes a space, but not nothing.
        return {"reasoning_content": "".join(part.text for part, _ in own) or " "}
    return {}


def _results(message: Message, ids: WireIds) -> Iterator[JsonObject]:
    shown: list[JsonObject] = []
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            continue
        call_id = ids.result(part.call_id)
        images = neutral.images(part)
        text = neutral.result_text(part)
        if images:
            text = text or "(see the images below)"
            shown.append({"type": "text", "text": f"Images from {part.tool} ({call_id}):"})
            shown += ({"type": "image_url", "image_url": {"url": i.url}} for i in images)
        yield {"role": "tool", "tool_call_id": call_id, "content": text or neutral.NO_OUTPUT}
    if shown:  # results hold only text here
        yield {"role": "user", "content": shown}
