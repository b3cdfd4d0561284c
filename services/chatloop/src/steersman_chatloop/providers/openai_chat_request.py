"""A step as a request of Chat Completions, for OpenAI itself and for compatible servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from steersman_chatloop.providers import answer_form, foreign, neutral, tuning
from steersman_chatloop.providers.addresses import OPENAI_URL, host_of, is_azure
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin, WireIds
from steersman_chatloop.providers.plain import plain
from steersman_contracts.chats import Message, Role
from steersman_contracts.model_options import CompatibleOptions, OpenAIOptions
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

# OpenAI refuses longer ids of calls.
_MAX_ID: Final = 40

_LEAST_SHARE: Final = 10
"""Percent of the window that an answer may have, however late summaries are wanted."""

# Hosts that refuse a conversation whose reasoning is missing. Others ignore the field or refuse it.
_WANT_REASONING: Final = (
    "deepseek.com",
    "moonshot.ai",
    "moonshot.cn",
    "kimi.com",
    "z.ai",
    "bigmodel.cn",
)

NO_REASONING: Final = " "
"""Not empty: Kimi takes a space, but not nothing."""


class Dialect(msgspec.Struct, frozen=True):
    """What differs between servers of this wire format."""

    is_openai: bool
    new_limit_name: bool
    """`max_completion_tokens`: OpenAI's reasoning models take nothing else, others do not know
    it."""
    wants_reasoning: bool
    takes_pdf: bool
    wraps_effort: bool
    """OpenRouter's own form of the effort, which it translates for every model."""

    @property
    def media(self) -> frozenset[str]:
        """The kinds of files that the server takes; others are read to it, if they are text."""
        return neutral.MEDIA if self.takes_pdf else neutral.IMAGES

    @classmethod
    def of(cls, access: ModelAccess) -> Dialect:
        """Tell the server by its address."""
        host = host_of(access.base_url, OPENAI_URL)
        is_openai = host == "api.openai.com"
        is_openrouter = _within(host, ("openrouter.ai",))
        return cls(
            is_openai=is_openai,
            new_limit_name=is_openai or is_azure(host),
            wants_reasoning=_within(host, _WANT_REASONING),
            takes_pdf=is_openai or is_azure(host) or is_openrouter,
            wraps_effort=is_openrouter,
        )


def _within(host: str, domains: Sequence[str]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def to_request(request: StepRequest) -> JsonObject:
    """Build the body of the request."""
    request = foreign.told(request, FORMAT)
    access = request.model
    dialect = Dialect.of(access)
    options = chat_options(access)
    system = "\n\n".join(filter(str.strip, (options.instructions or "", request.system)))
    body: JsonObject = {
        "model": access.model_id,
        "messages": _ended(list(_messages(request, system, dialect))),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= _limit(access, options, dialect)
    if request.tools:
        body["tools"] = [
            _tool(tool, strict=options.strict_json_schema) for tool in tuning.offered(request.tools)
        ]
        if request.tool_choice == "none":
            body["tool_choice"] = "none"
        if options.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = options.parallel_tool_calls
    if dialect.is_openai:
        body["prompt_cache_key"] = request.chat_id
    body |= tuning.sampling(access.settings, _sampled(dialect))
    body |= _effort(request, options, dialect)
    body |= _plain(options)
    body |= _search(access)
    if request.response_schema is not None:
        body["response_format"] = answer_form.for_chat_completions(request.response_schema)
    return _merged(body, options.extra_body)


def chat_options(access: ModelAccess) -> CompatibleOptions:
    """The options of the model, also when it is one of OpenAI that is called this way."""
    if access.provider_type == "openai-chat":
        return tuning.options(access, CompatibleOptions)
    openai = tuning.options(access, OpenAIOptions)
    return CompatibleOptions(**{name: getattr(openai, name) for name in _SHARED})


_SHARED: Final = tuple(
    name for name in CompatibleOptions.__struct_fields__ if name in OpenAIOptions.__struct_fields__
)

# Option → the field of the request.
_FIELDS: Final = {
    "user": "user",
    "logit_bias": "logit_bias",
    "logprobs": "logprobs",
    "top_logprobs": "top_logprobs",
    "text_verbosity": "verbosity",
    "prediction": "prediction",
    "store": "store",
    "metadata": "metadata",
    "prompt_cache_key": "prompt_cache_key",
    "safety_identifier": "safety_identifier",
    "service_tier": "service_tier",
    "prompt_cache_retention": "prompt_cache_retention",
    "seed": "seed",
    "provider": "provider",
    "reasoning": "reasoning",
}


def _plain(options: CompatibleOptions) -> JsonObject:
    """The options that are fields of the request, as they are."""
    found = ((field, getattr(options, name)) for name, field in _FIELDS.items())
    body: JsonObject = {
        field: msgspec.to_builtins(value) for field, value in found if value is not None
    }
    if options.top_logprobs is not None and options.logprobs is None:
        body["logprobs"] = True  # refused without it
    if options.prompt_cache_ttl is not None:
        body["prompt_cache_options"] = {"ttl": options.prompt_cache_ttl}
    if options.stop:
        body["stop"] = list(options.stop)
    return body


def _limit(access: ModelAccess, options: CompatibleOptions, dialect: Dialect) -> JsonObject:
    if options.max_completion_tokens is not None:
        return {"max_completion_tokens": options.max_completion_tokens}
    name = "max_completion_tokens" if dialect.new_limit_name else "max_tokens"
    return {name: min(access.max_output_tokens, _room(access))}


def _room(access: ModelAccess) -> int:
    """Tokens that an answer may have beside a prompt that is about to be summarised.

    Strict servers refuse a request whose prompt and limit together exceed the window, however
    short the answer would be.
    """
    if access.context_limit is None:
        return access.max_output_tokens
    beyond = max(100 - access.settings.compaction_threshold, _LEAST_SHARE)
    return max(access.context_limit * beyond // 100, 1)


def _search(access: ModelAccess) -> JsonObject:
    """Search by OpenAI's models that are made for it."""
    options = tuning.options(access, OpenAIOptions)
    if not options.web_search_enabled:
        return {}
    search: JsonObject = {}
    if options.search_context_size is not None:
        search["search_context_size"] = options.search_context_size
    if options.user_location is not None:
        place = msgspec.to_builtins(options.user_location)
        search["user_location"] = {"type": "approximate", "approximate": place}
    return {"web_search_options": search}


def unsent(access: ModelAccess) -> Iterator[str]:
    """The settings that do not reach the model: the API has nothing like them."""
    if "top_k" not in _sampled(Dialect.of(access)):
        yield from tuning.sampling(access.settings, ("top_k",))


def _sampled(dialect: Dialect) -> tuple[str, ...]:
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
    return names if dialect.new_limit_name else (*names, "top_k")


def _effort(request: StepRequest, options: CompatibleOptions, dialect: Dialect) -> JsonObject:
    """The effort: as it is written in the options, or from the scale."""
    wanted = tuning.effort(request)
    name: str | None = wanted
    if options.reasoning_effort is not None and request.effort is None:
        name = options.reasoning_effort
    elif dialect.new_limit_name:
        name = tuning.openai_effort(wanted, request.model.model_id)
    elif wanted is not None and not dialect.wraps_effort:
        # What servers other than OpenAI's have in common.
        name = tuning.nearest(wanted, ("none", "low", "medium", "high"))
    if name is None or options.reasoning is not None or "reasoning" in options.extra_body:
        return {}
    return {"reasoning": {"effort": name}} if dialect.wraps_effort else {"reasoning_effort": name}


def _merged(body: JsonObject, extra: JsonObject) -> JsonObject:
    """Further fields win over ours, except for those without which there is no conversation."""
    return body | {name: value for name, value in extra.items() if name not in _OURS}


_OURS: Final = frozenset({"messages", "stream", "tools"})


def _ended(messages: list[JsonObject]) -> list[JsonObject]:
    """End with input: some servers would go on writing the last message."""
    if messages and messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": neutral.CONTINUE})
    return messages


def _tool(tool: ToolSpec, *, strict: bool) -> JsonObject:
    function: JsonObject = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
    }
    if strict and tuning.is_strict(tool.input_schema):  # the default is not to be
        function["strict"] = True
    return {"type": "function", "function": function}


def _messages(request: StepRequest, system: str, dialect: Dialect) -> Iterator[JsonObject]:
    origin = Origin(FORMAT, request.model)
    ids = WireIds(_MAX_ID)
    if system:
        yield {"role": "system", "content": system}
    write, form = _said, FORMAT
    if dialect.wants_reasoning:
        write, form = _said_with_reasoning, f"{FORMAT}, with reasoning"
    begun = request.beginning.items(request.messages, form, write)
    yield from begun
    for message in request.messages[len(begun) :]:
        if (text := plain(message)) is not None:
            yield write(text, message.role is Role.ASSISTANT)
            continue
        match message.role:
            case Role.USER:
                if content := _content(message.parts, dialect):
                    yield {"role": "user", "content": content}
            case Role.SYSTEM:
                yield {"role": "system", "content": neutral.input_texts(message.parts)}
            case Role.ASSISTANT:
                yield from _assistant(message, origin, ids, dialect)
            case Role.TOOL:
                yield from _results(message, ids, dialect)


def _said(text: str, by_model: bool) -> JsonObject:  # as `plain.Write` is called
    return {"role": "assistant" if by_model else "user", "content": text}


def _said_with_reasoning(text: str, by_model: bool) -> JsonObject:  # as above
    said = _said(text, by_model)
    return said | {"reasoning_content": NO_REASONING} if by_model else said


def _content(parts: Sequence[Part], dialect: Dialect) -> str | list[JsonObject]:
    """Plain text as long as there is only text: weak servers take nothing else."""
    blocks: list[JsonObject] = []
    texts: list[str] = []
    for part in parts:
        if (media := neutral.media(part, dialect.media)) is not None:
            blocks.append(_media(media))
        elif text := neutral.input_text(part):
            texts.append(text)
            blocks.append({"type": "text", "text": text})
    return "\n\n".join(texts) if len(texts) == len(blocks) else blocks


def _media(media: neutral.Media) -> JsonObject:
    if media.is_image:
        return {"type": "image_url", "image_url": {"url": media.url}}
    return {"type": "file", "file": {"filename": media.name, "file_data": media.url}}


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
        return {"reasoning_content": "".join(part.text for part, _ in own) or NO_REASONING}
    return {}


def _results(message: Message, ids: WireIds, dialect: Dialect) -> Iterator[JsonObject]:
    shown: list[JsonObject] = []
    for part in message.parts:
        if not isinstance(part, ToolResultPart):
            continue
        call_id = ids.result(part.call_id)
        media = neutral.result_media(part, dialect.media)
        text = neutral.result_text(part, beside=dialect.media)
        if media:
            text = text or "(see the files below)"
            shown.append({"type": "text", "text": f"Files from {part.tool} ({call_id}):"})
            shown += map(_media, media)
        yield {"role": "tool", "tool_call_id": call_id, "content": text or neutral.NO_OUTPUT}
    if shown:  # results hold only text here
        yield {"role": "user", "content": shown}
