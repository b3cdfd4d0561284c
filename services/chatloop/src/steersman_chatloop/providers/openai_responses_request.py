"""A step as a request of the Responses API, stateless: the whole history every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from steersman_chatloop.providers import neutral
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin, WireIds, metadata_of
from steersman_contracts.chats import Message, Role
from steersman_contracts.parts import (
    JsonObject,
    Part,
    ReasoningPart,
    SourcePart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.tools import ToolSpec

FORMAT: Final = "openai-responses"


def to_request(request: StepRequest) -> JsonObject:
    """Build the body of the request."""
    access = request.model
    body: JsonObject = {
        "model": access.model_id,
        "input": list(_input(request)),
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": access.max_output_tokens,
        "prompt_cache_key": request.chat_id,
    }
    if request.system.strip():
        body["instructions"] = request.system
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if access.base_url is None or urlsplit(access.base_url).hostname == "api.openai.com":
        # Padding against eavesdroppers who count bytes: it doubles the size of short deltas.
        body["stream_options"] = {"include_obfuscation": False}
    return body


def _tool(tool: ToolSpec) -> JsonObject:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
        # The default is strict, which refuses schemas with optional properties.
        "strict": False,
    }


def _input(request: StepRequest) -> Iterator[JsonObject]:
    origin = Origin(FORMAT, request.model)
    ids = WireIds()
    for message in request.messages:
        match message.role:
            case Role.USER:
                yield from _said(message)
            case Role.SYSTEM:
                text = neutral.input_texts(message.parts)
                yield {"type": "message", "role": "developer", "content": text}
            case Role.ASSISTANT:
                yield from _assistant(message.parts, origin, ids)
            case Role.TOOL:
                yield from _results(message, ids)
    if request.messages and request.messages[-1].role is Role.ASSISTANT:
        yield {"type": "message", "role": "user", "content": neutral.CONTINUE}


def _said(message: Message) -> Iterator[JsonObject]:
    content: list[JsonObject] = []
    for part in message.parts:
        if (image := neutral.image(part)) is not None:
            content.append(_image(image))
        elif text := neutral.input_text(part):
            content.append({"type": "input_text", "text": text})
    if content:
        yield {"type": "message", "role": "user", "content": content}


def _image(image: neutral.Image) -> JsonObject:
    return {"type": "input_image", "image_url": image.url, "detail": "auto"}


def _assistant(parts: Sequence[Part], origin: Origin, ids: WireIds) -> Iterator[JsonObject]:
    """Own items as they came, everything else from the neutral fields."""
    text: list[Part] = []
    native_calls: set[str] = set()
    for part, item in zip(parts, _items(parts, origin), strict=True):
        if item is not None:
            yield from _flush(text)
            yield item
            if isinstance(part, ToolCallPart):
                native_calls.add(part.call_id)
                ids.keep(part.call_id)
        elif isinstance(part, ToolCallPart) and not part.provider_executed:
            yield from _flush(text)
            yield _call(part, ids)
        elif not (isinstance(part, ToolResultPart) and part.call_id in native_calls):
            text.append(part)
    yield from _flush(text)


def _items(parts: Sequence[Part], origin: Origin) -> list[JsonObject | None]:
    """The native item of each part that goes back as it came.

    The API refuses reasoning that is not followed by an item of its response, which an interrupt
    can leave behind, and items whose reasoning is missing.
    """
    items = [_item(part, origin) for part in parts]
    while True:
        usable = True
        dropped = False
        for at, part in enumerate(parts):
            if isinstance(part, ReasoningPart):
                usable = items[at] is not None and _is_followed(parts[at + 1 :], items[at + 1 :])
            if not usable and items[at] is not None:
                items[at] = None
                dropped = True
        if not dropped:  # what was dropped may have been what something before it needs
            return items


def _item(part: Part, origin: Origin) -> JsonObject | None:
    item = origin.native(metadata_of(part))
    if item is None or not isinstance(part, ToolCallPart) or part.provider_executed:
        return item
    broken = part.invalid is not None or not str(item.get("arguments", "")).strip()
    return item | {"arguments": "{}"} if broken else item


def _is_followed(rest: Sequence[Part], items: Sequence[JsonObject | None]) -> bool:
    for part, item in zip(rest, items, strict=True):
        if not isinstance(part, SourcePart | ToolResultPart):
            return item is not None
    return False


def _flush(parts: list[Part]) -> Iterator[JsonObject]:
    text = neutral.joined(parts)
    parts.clear()
    if text.strip():
        yield {"type": "message", "role": "assistant", "content": text}


def _call(part: ToolCallPart, ids: WireIds) -> JsonObject:
    return {
        "type": "function_call",
        "call_id": ids.call(part.call_id),
        "name": part.tool,
        "arguments": msgspec.json.encode(part.arguments).decode(),
    }


def _results(message: Message, ids: WireIds) -> Iterator[JsonObject]:
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            continue
        text = neutral.result_text(part)
        images = neutral.images(part)
        output: str | list[JsonObject] = text or neutral.NO_OUTPUT
        if images:
            said: list[JsonObject] = [{"type": "input_text", "text": text}] if text else []
            output = [*said, *(_image(image) for image in images)]
        call_id = ids.result(part.call_id)
        yield {"type": "function_call_output", "call_id": call_id, "output": output}
