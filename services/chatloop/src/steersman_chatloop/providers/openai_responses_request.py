"""A step as a request of the Responses API: the whole history, unless the server keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from steersman_chatloop.providers import answer_form, computer, foreign, neutral, tuning
from steersman_chatloop.providers.addresses import host_of
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin, WireIds, metadata_of
from steersman_chatloop.providers.plain import plain
from steersman_contracts.chats import Message, Role
from steersman_contracts.computer_providers import OPENAI_TOOL
from steersman_contracts.model_options import OpenAIOptions
from steersman_contracts.parts import (
    JsonObject,
    Part,
    ReasoningPart,
    SourcePart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.worker import ModelAccess
from steersman_contracts.surrogates import paired

FORMAT: Final = "openai-responses"
_LEAST_OUTPUT: Final = 16
"""Fewer tokens are refused."""


def to_request(request: StepRequest) -> JsonObject:
    """Build the body of the request, with the whole history."""
    request = foreign.told(request, FORMAT)
    access = request.model
    options = tuning.options(access, OpenAIOptions)
    limit = options.max_completion_tokens or access.max_output_tokens
    body: JsonObject = {
        "model": access.model_id,
        "input": _input(request),
        "stream": True,
        "store": bool(options.store),
        # Also when it is stored: then the history can go to the server again, whatever it forgot.
        "include": list(dict.fromkeys(("reasoning.encrypted_content", *_includes(options)))),
        "max_output_tokens": max(limit, _LEAST_OUTPUT),
        "prompt_cache_key": options.prompt_cache_key or request.chat_id,
    }
    instructions = (options.instructions or "", request.system)
    if text := "\n\n".join(text for text in instructions if text.strip()):
        body["instructions"] = text
    if tools := list(_tools(request, options)):
        body["tools"] = tools
        if request.tool_choice == "none":
            body["tool_choice"] = "none"
    if access.base_url is None or host_of(access.base_url, "") == "api.openai.com":
        # Padding against eavesdroppers who count bytes: it doubles the size of short deltas.
        body["stream_options"] = {"include_obfuscation": False}
    body |= tuning.sampling(access.settings, ("temperature", "top_p"))
    body |= _plain(options)
    if reasoning := _reasoning(request, options):
        body["reasoning"] = reasoning
    form: JsonObject = {}
    if options.text_verbosity is not None:
        form["verbosity"] = options.text_verbosity
    if request.response_schema is not None:
        form["format"] = answer_form.for_responses(request.response_schema)
    if form:
        body["text"] = form
    return body


def unsent(access: ModelAccess) -> Iterator[str]:
    """The settings that do not reach the model: the API has nothing like them."""
    yield from tuning.sampling(access.settings, ("top_k", "presence_penalty", "frequency_penalty"))
    effort = access.settings.reasoning_effort
    if effort is not None and tuning.openai_effort(effort, access.model_id) is None:
        yield "reasoning_effort"


def _includes(options: OpenAIOptions) -> Iterator[str]:
    yield from options.include
    if options.web_search_enabled:
        yield "web_search_call.action.sources"
    if options.logprobs or options.top_logprobs:
        yield "message.output_text.logprobs"


_SENT_AS_THEY_ARE: Final = (
    "top_logprobs",
    "max_tool_calls",
    "parallel_tool_calls",
    "user",
    "metadata",
    "safety_identifier",
    "service_tier",
    "prompt_cache_retention",
)


def _plain(options: OpenAIOptions) -> JsonObject:
    found = ((name, getattr(options, name)) for name in _SENT_AS_THEY_ARE)
    body: JsonObject = {name: value for name, value in found if value is not None}
    if options.prompt_cache_ttl is not None:
        body["prompt_cache_options"] = {"ttl": options.prompt_cache_ttl}
    return body


def _reasoning(request: StepRequest, options: OpenAIOptions) -> JsonObject:
    effort = tuning.openai_effort(tuning.effort(request), request.model.model_id)
    if options.reasoning_effort is not None and request.effort is None:
        effort = options.reasoning_effort
    found = {
        "effort": effort,
        "summary": options.reasoning_summary,
        "mode": options.reasoning_mode,
        "context": options.reasoning_context,
    }
    return {name: value for name, value in found.items() if value is not None}


def _tools(request: StepRequest, options: OpenAIOptions) -> Iterator[JsonObject]:
    own_form = computer.spec_of(request.tools) if has_computer(request) else None
    for tool in tuning.offered(request.tools):
        if tool is own_form:
            yield OPENAI_TOOL
            continue
        yield {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.input_schema,
            # The default is strict, which refuses schemas with optional properties.
            "strict": options.strict_json_schema and tuning.is_strict(tool.input_schema),
        }
    if options.web_search_enabled:
        search: JsonObject = {"type": "web_search"}
        if options.search_context_size is not None:
            search["search_context_size"] = options.search_context_size
        if options.external_web_access is not None:
            search["external_web_access"] = options.external_web_access
        if options.user_location is not None:
            search["user_location"] = tuning.near(options.user_location)
        if options.allowed_domains:
            search["filters"] = {"allowed_domains": list(options.allowed_domains)}
        yield search


def has_computer(request: StepRequest) -> bool:
    """Whether the computer tool is declared in OpenAI's own form."""
    access = request.model
    itself = access.base_url is None or host_of(access.base_url, "") == "api.openai.com"
    wanted = tuning.options(access, OpenAIOptions).computer_use
    return computer.openai_native(request, wanted, itself=itself)


def digest(items: Sequence[JsonObject]) -> str:
    """A digest of a part of the input: equal items, equal digest."""
    return hashlib.blake2b(msgspec.json.encode(items), digest_size=16).hexdigest()


def keeps_responses(access: ModelAccess) -> bool:
    """Say whether a later request may build on the response to this one."""
    options = tuning.options(access, OpenAIOptions)
    return options.chain_responses and bool(options.store)


def chained(request: StepRequest, body: JsonObject) -> JsonObject | None:
    """The same request with only what is new since the last response.

    None on any doubt: another model or account made it, it was not stored, or what it answered is
    not exactly what would be sent for it now.
    """
    if not keeps_responses(request.model):
        return None
    request = foreign.told(request, FORMAT)
    messages = request.messages
    at = next(
        (i for i in reversed(range(len(messages))) if messages[i].role is Role.ASSISTANT), None
    )
    if at is None:
        return None
    known = Origin(FORMAT, request.model).answered(messages[at])
    if known is None:
        return None
    writer = _Writer(request)
    before = writer.begun(messages[:at])
    own = list(writer.items(messages[at]))
    new = body["input"][len(before) + len(own) :]
    if not new or digest(before) != known.prefix:
        return None
    return body | {"input": new, "previous_response_id": known.response_id}


def _input(request: StepRequest) -> list[JsonObject]:
    items = _Writer(request).begun(request.messages)
    if request.messages and request.messages[-1].role is Role.ASSISTANT:
        items.append({"type": "message", "role": "user", "content": neutral.CONTINUE})
    return items


class Screens(NamedTuple):
    """Calls of the computer tool in OpenAI's own form."""

    answered: Collection[str]
    """Those that have a screenshot to be answered with."""
    sent: dict[str, JsonObject]
    """Those that have gone out so, by call id."""


class _Writer:
    """Writes messages as items, in order; remembers the ids that calls went out with."""

    def __init__(self, request: StepRequest) -> None:
        self._origin = Origin(FORMAT, request.model)
        self._ids = WireIds()
        # A call in OpenAI's own form is answered with a screenshot and with nothing else.
        screens = computer.pictured(request.messages) if has_computer(request) else frozenset[str]()
        self._screens = Screens(screens, {})
        self._beginning = request.beginning

    def begun(self, messages: Sequence[Message]) -> list[JsonObject]:
        """The items of the first messages of the request."""
        items = self._beginning.items(messages, FORMAT, _said)
        for message in messages[len(items) :]:
            items += self.items(message)
        return items

    def items(self, message: Message) -> Iterator[JsonObject]:
        if (text := plain(message)) is not None:
            yield _said(text, message.role is Role.ASSISTANT)
            return
        match message.role:
            case Role.USER:
                yield from _shown(message)
            case Role.SYSTEM:
                text = neutral.input_texts(message.parts)
                yield {"type": "message", "role": "developer", "content": text}
            case Role.ASSISTANT:
                yield from _assistant(message.parts, self._origin, self._ids, self._screens)
            case Role.TOOL:
                yield from _results(message, self._ids, self._screens)


def _said(text: str, by_model: bool) -> JsonObject:  # as `plain.Write` is called
    if by_model:
        return {"type": "message", "role": "assistant", "content": text}
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def _shown(message: Message) -> Iterator[JsonObject]:
    content: list[JsonObject] = []
    for part in message.parts:
        if (media := neutral.media(part)) is not None:
            content.append(_media(media))
        elif text := neutral.input_text(part):
            content.append({"type": "input_text", "text": text})
    if content:
        yield {"type": "message", "role": "user", "content": content}


def _media(media: neutral.Media) -> JsonObject:
    if media.is_image:
        return {"type": "input_image", "image_url": media.url, "detail": "auto"}
    return {"type": "input_file", "filename": media.name, "file_data": media.url}


def _assistant(
    parts: Sequence[Part], origin: Origin, ids: WireIds, screens: Screens
) -> Iterator[JsonObject]:
    """Own items as they came, everything else from the neutral fields."""
    text: list[Part] = []
    native_calls: set[str] = set()
    for part, item in zip(parts, _items(parts, origin, screens), strict=True):
        if item is not None:
            yield from _flush(text)
            yield item
            if isinstance(part, ToolCallPart):
                native_calls.add(part.call_id)
                ids.keep(part.call_id)
                if item["type"] == computer.OPENAI_ITEM:
                    screens.sent[part.call_id] = item
        elif isinstance(part, ToolCallPart) and not part.provider_executed:
            yield from _flush(text)
            yield _call(part, ids)
        elif not (isinstance(part, ToolResultPart) and part.call_id in native_calls):
            text.append(part)
    yield from _flush(text)


def _items(parts: Sequence[Part], origin: Origin, screens: Screens) -> list[JsonObject | None]:
    """The native item of each part that goes back as it came.

    The API refuses reasoning that is not followed by an item of its response, which an interrupt
    can leave behind, and items whose reasoning is missing.
    """
    items = [_item(part, origin, screens) for part in parts]
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


def _item(part: Part, origin: Origin, screens: Screens) -> JsonObject | None:
    item = origin.native(metadata_of(part))
    if item is None or not isinstance(part, ToolCallPart) or part.provider_executed:
        return item
    if item.get("type") == computer.OPENAI_ITEM:
        return item if part.call_id in screens.answered else None
    given = str(item.get("arguments", ""))
    sent = paired(given) if part.invalid is None and given.strip() else "{}"
    return item if sent == given else item | {"arguments": sent}


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


def _results(message: Message, ids: WireIds, screens: Screens) -> Iterator[JsonObject]:
    problems: list[str] = []
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            continue
        if (sent := screens.sent.pop(part.call_id, None)) is not None:
            yield _screen(part, ids, sent)
            if part.is_error:
                problems.append(neutral.result_text(part))
            continue
        text = neutral.result_text(part)
        media = neutral.result_media(part)
        output: str | list[JsonObject] = text or neutral.NO_OUTPUT
        if media:
            said: list[JsonObject] = [{"type": "input_text", "text": text}] if text else []
            output = [*said, *(_media(found) for found in media)]
        call_id = ids.result(part.call_id)
        yield {"type": "function_call_output", "call_id": call_id, "output": output}
    if problems:  # a screenshot has no words
        yield {"type": "message", "role": "developer", "content": "\n".join(problems)}


def _screen(part: ToolResultPart, ids: WireIds, sent: JsonObject) -> JsonObject:
    """The screenshot that answers a call in OpenAI's own form.

    It is there because the call was run, and a call with safety checks is only run after a person
    has accepted them.
    """
    found = (media for media in neutral.result_media(part) if media.is_image)
    item: JsonObject = {
        "type": "computer_call_output",
        "call_id": ids.result(part.call_id),
        "output": {"type": "computer_screenshot", "image_url": next(found).url},
    }
    if checks := sent.get("pending_safety_checks"):
        item["acknowledged_safety_checks"] = checks
    return item
