"""A step as a request of Anthropic's Messages API."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Final

from steersman_chatloop.providers import answer_form, computer, foreign, neutral, tuning
from steersman_chatloop.providers.addresses import ANTHROPIC_URL, host_of
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin, WireIds, block, metadata_of
from steersman_chatloop.providers.neutral import CONTINUE
from steersman_chatloop.providers.plain import plain
from steersman_contracts.chats import Message, Role
from steersman_contracts.computer_calls import TOOLSET
from steersman_contracts.computer_history import screen_size
from steersman_contracts.computer_providers import AnthropicForm, anthropic_tool
from steersman_contracts.computer_use import TOOL as COMPUTER
from steersman_contracts.model_options import AnthropicOptions, Effort
from steersman_contracts.parts import (
    FilePart,
    JsonObject,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc.worker import ModelAccess

FORMAT: Final = "anthropic"

# claude-sonnet-4-5-20250929, claude-opus-4@20250514, claude-3-7-sonnet-latest: a date is no
# version.
_CLAUDE: Final = re.compile(
    r"claude-(?:[a-z]+-(\d{1,2})(?:-(\d{1,2}))?|(\d{1,2})(?:[-.](\d{1,2}))?-[a-z]+)(?![0-9])"
)
_EFFORTS: Final[tuple[Effort, ...]] = ("low", "medium", "high", "xhigh", "max")
_EFFORTS_BEFORE: Final[tuple[Effort, ...]] = ("low", "medium", "high")
_BUDGETS: Final[Mapping[Effort, int]] = {
    "minimal": 1024,
    "low": 4096,
    "medium": 10_000,
    "high": 20_000,
    "xhigh": 32_000,
    "max": 48_000,
}
_LEAST_BUDGET: Final = 1024
SEARCH: Final = "web_search"
TOOLSET_FORM: Final[AnthropicForm] = "computer_toolset_20260801"
REFUSED: Final = "(The answer was declined.)"

_UNCACHEABLE: Final = frozenset({"thinking", "redacted_thinking"})


def is_anthropic(access: ModelAccess) -> bool:
    """Say whether this is Anthropic itself and not a server that speaks its format."""
    if access.provider_type != "anthropic":
        return False
    host = host_of(access.base_url, ANTHROPIC_URL)
    return host == "anthropic.com" or host.endswith(".anthropic.com")


def to_request(request: StepRequest) -> JsonObject:
    """Build the body of the request."""
    request = foreign.told(request, FORMAT)
    access = request.model
    options = tuning.options(access, AnthropicOptions)
    system = [request.system] if request.system.strip() else []
    # A conversation begins with a user message; what comes before it belongs to the prompt.
    first = list(takewhile(lambda message: message.role is Role.SYSTEM, request.messages))
    system += [neutral.input_texts(message.parts) for message in first]
    form = computer_form(request)
    history = _ended(_messages(request, len(first), options, form))
    reasoning = _reasoning_of(request, options, history)
    mark = _mark(options)
    body: JsonObject = {
        "model": access.model_id,
        "max_tokens": access.max_output_tokens,
        "messages": _cached(history, mark),
        "stream": True,
    }
    if system:
        blocks: list[JsonObject] = [{"type": "text", "text": text} for text in system]
        blocks[-1] |= mark
        body["system"] = blocks
    if tools := list(_tools(request, options, form)):
        body["tools"] = tools
        if request.tool_choice == "none":
            body["tool_choice"] = {"type": "none"}
        elif options.disable_parallel_tool_use:
            body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
    body |= _plain(options)
    if not is_anthropic(access):
        names = ["temperature", "top_p", "top_k"]
        # Reasoning leaves no choice of these, where they are taken at all.
        thinks = reasoning.get("thinking", {"type": "disabled"})["type"] != "disabled"
        body |= tuning.sampling(access.settings, ["top_p"] if thinks else names)
    if request.response_schema is not None:
        form = answer_form.for_anthropic(request.response_schema)
        if form is not None:
            config: JsonObject = reasoning.get("output_config", {})
            reasoning["output_config"] = {**config, "format": form}
    return body | reasoning


def _plain(options: AnthropicOptions) -> JsonObject:
    """The options that are fields of the request, as they are."""
    names = ("service_tier", "inference_geo", "speed")
    found = ((name, getattr(options, name)) for name in names)
    body: JsonObject = {name: value for name, value in found if value is not None}
    if options.stop_sequences:
        body["stop_sequences"] = list(options.stop_sequences)
    if options.user_id is not None:
        body["metadata"] = {"user_id": options.user_id}
    return body


def unsent(access: ModelAccess) -> Iterator[str]:
    """The settings that do not reach the model: the API has nothing like them."""
    never = ["presence_penalty", "frequency_penalty"]
    if is_anthropic(access):  # refused since the version of 2026-10-21
        never += ["temperature", "top_p", "top_k"]
    yield from tuning.sampling(access.settings, never)


def betas(access: ModelAccess) -> tuple[str, ...]:
    """The features that are asked for by header."""
    return tuning.options(access, AnthropicOptions).beta_headers


def needed_betas(request: StepRequest) -> tuple[str, ...]:
    """Those and what the tools of this request need."""
    own, needed = betas(request.model), computer.anthropic_beta(computer_form(request))
    return (*own, needed) if needed and needed not in own else own


def computer_form(request: StepRequest) -> AnthropicForm | None:
    """How the computer tool is declared; None: as a function, or not at all."""
    access = request.model
    wanted = tuning.options(access, AnthropicOptions).computer_use
    version = _version(access.model_id)
    return computer.anthropic_form(request, wanted, version, itself=is_anthropic(access))


def _tools(
    request: StepRequest, options: AnthropicOptions, form: AnthropicForm | None
) -> Iterator[JsonObject]:
    searches = options.web_search_enabled
    own_form = None if form is None else computer.spec_of(request.tools)
    for tool in tuning.offered(request.tools, {SEARCH} if searches else ()):
        if form is not None and tool is own_form:
            yield anthropic_tool(form, *screen_size(request.messages))
            continue
        yield {
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.input_schema,
        }
    if searches:
        # Not a newer version: those run their searches inside code, and not on every model.
        search: JsonObject = {"type": "web_search_20250305", "name": SEARCH}
        if options.allowed_domains:
            search["allowed_domains"] = list(options.allowed_domains)
        elif options.blocked_domains:
            search["blocked_domains"] = list(options.blocked_domains)
        if options.search_max_uses is not None:
            search["max_uses"] = options.search_max_uses
        if options.user_location is not None:
            search["user_location"] = tuning.near(options.user_location)
        yield search


def _reasoning_of(
    request: StepRequest, options: AnthropicOptions, history: Sequence[JsonObject]
) -> JsonObject:
    """The fields that say whether and how hard the model thinks."""
    access = request.model
    kind: str | None = options.thinking
    budget = options.thinking_budget_tokens
    out: JsonObject = {}
    effort = tuning.effort(request)
    if options.effort is not None and request.effort is None:
        out["output_config"] = {"effort": options.effort}
        kind = kind or _adaptive(access)
    elif effort == "none":
        kind = "disabled"
    elif effort is not None and _has_effort(access.model_id):
        known = _EFFORTS if _newer(access.model_id, (4, 7)) else _EFFORTS_BEFORE
        out["output_config"] = {"effort": tuning.nearest(effort, known)}
        kind = kind or _adaptive(access)
    elif effort is not None and kind is None and _thinks(access.model_id):
        kind, budget = "enabled", budget or _BUDGETS[effort]
    if kind == "enabled":
        budget = min(budget or _BUDGETS["medium"], access.max_output_tokens - 1)
        if budget < _LEAST_BUDGET or _breaks_thinking(history):
            return out
        out["thinking"] = {"type": "enabled", "budget_tokens": budget}
    elif kind is not None:
        out["thinking"] = {"type": kind}
    if options.thinking_display is not None and kind in ("enabled", "adaptive"):
        out["thinking"]["display"] = options.thinking_display
    return out


def _adaptive(access: ModelAccess) -> str | None:
    """How a model thinks that is asked for an effort, where that is not said."""
    return "adaptive" if _newer(access.model_id, (4, 6)) else None


def _breaks_thinking(history: Sequence[JsonObject]) -> bool:
    """Say whether a running turn has calls without thinking, as when its model was switched.

    With a fixed budget such a turn is refused; it goes on without thinking.
    """
    for message in reversed(history):
        if message["role"] == "assistant":
            kinds = [block["type"] for block in message["content"]]
            if "tool_use" in kinds and kinds[0] not in _UNCACHEABLE:
                return True
        elif message["role"] != "system" and not all(
            block["type"] == "tool_result" for block in message["content"]
        ):
            return False
    return False


def _version(model_id: str) -> tuple[int, int] | None:
    """The version of a Claude model, whichever way its name is built."""
    match = _CLAUDE.search(model_id)
    if match is None:
        return None
    return int(match[1] or match[3]), int(match[2] or match[4] or 0)


def _newer(model_id: str, than: tuple[int, int]) -> bool:
    """Say whether the model has at least this version; so has every one that we do not know."""
    version = _version(model_id)
    return version is None or version >= than


def _has_effort(model_id: str) -> bool:
    return _newer(model_id, (4, 6)) or "opus-4-5" in model_id


def _thinks(model_id: str) -> bool:
    return _newer(model_id, (3, 7))


def _ended(messages: list[JsonObject]) -> list[JsonObject]:
    """End with input. A turn that was paused goes on by itself, if it ends in the paused work."""
    if messages and messages[-1]["role"] == "assistant":
        last: str = messages[-1]["content"][-1]["type"]
        if last != "server_tool_use" and not last.endswith("_tool_result"):
            messages.append({"role": "user", "content": [{"type": "text", "text": CONTINUE}]})
    return messages


def _mark(options: AnthropicOptions) -> JsonObject:
    """What is put on a block up to which the request is to be kept."""
    control = {"type": "ephemeral"}
    if options.cache_ttl is not None:
        control["ttl"] = options.cache_ttl
    return {"cache_control": control}


def _cached(messages: list[JsonObject], mark: JsonObject) -> list[JsonObject]:
    """Mark the last two messages: the next request finds the prefix at one of the marks."""
    for at in range(max(0, len(messages) - 2), len(messages)):
        content: list[JsonObject] = list(messages[at]["content"])
        last = next(
            (i for i in reversed(range(len(content))) if content[i]["type"] not in _UNCACHEABLE),
            None,
        )
        if last is not None:
            content[last] = content[last] | mark
            messages[at] = messages[at] | {"content": content}
    return messages


def _messages(
    request: StepRequest, start: int, options: AnthropicOptions, form: AnthropicForm | None
) -> list[JsonObject]:
    messages = request.messages[start:]
    written = request.beginning.items(messages, FORMAT, _said)
    written += _written(messages[len(written) :], request.model, options, form)
    return written


def _said(text: str, by_model: bool) -> JsonObject:  # as `plain.Write` is called
    return {
        "role": "assistant" if by_model else "user",
        "content": [{"type": "text", "text": text}],
    }


def _written(
    messages: Sequence[Message],
    access: ModelAccess,
    options: AnthropicOptions,
    form: AnthropicForm | None,
) -> Iterator[JsonObject]:
    origin = Origin(FORMAT, access)
    ids = WireIds()
    toolset: set[str] | None = set() if form == TOOLSET_FORM else None
    for message in messages:
        if (said := plain(message)) is not None:
            yield _said(said, message.role is Role.ASSISTANT)
            continue
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
                parts = _after_refusal(message)
                if not options.send_reasoning:
                    parts = [part for part in parts if not isinstance(part, ReasoningPart)]
                content = list(_output(parts, origin, ids, toolset))
            case Role.TOOL:
                content = list(_results(message.parts, ids, toolset or frozenset()))
        if content:
            yield {"role": role, "content": content}


def _after_refusal(message: Message) -> Sequence[Part]:
    """A refused turn in other words: what was refused would make the next turns be refused too."""
    if message.stop != "refusal":
        return message.parts
    calls = (p for p in message.parts if isinstance(p, ToolCallPart) and not p.provider_executed)
    return [TextPart(REFUSED), *calls]


def _input(parts: Sequence[Part]) -> list[JsonObject]:
    content: list[JsonObject] = []
    for part in parts:
        if (media := neutral.media(part)) is not None:
            content.append(_media(media))
        elif isinstance(part, FilePart) and (text := neutral.text_of(part)) is not None:
            source = {"type": "text", "media_type": "text/plain", "data": text}
            content.append({"type": "document", "source": source} | _title(part.name))
        elif text := neutral.input_text(part):
            content.append({"type": "text", "text": text})
    return content


def _media(media: neutral.Media) -> JsonObject:
    source = {"type": "base64", "media_type": media.media_type, "data": media.data}
    if media.is_image:
        return {"type": "image", "source": source}
    return {"type": "document", "source": source} | _title(media.name)


def _title(name: str) -> JsonObject:
    return {"title": name} if name.strip() else {}


def _output(
    parts: Sequence[Part], origin: Origin, ids: WireIds, toolset: set[str] | None
) -> Iterator[JsonObject]:
    """The blocks of an assistant message: own ones as they came.

    `toolset` gets the calls that go out as members of the computer toolset; None: it is not there.
    """
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
                own = dict(_own(part, origin) or {"type": "tool_use"})
                wire_id = ids.call(part.call_id)
                member = None if toolset is None else computer.toolset_block(part)
                if toolset is not None and member is not None:
                    toolset.add(wire_id)
                    yield own | {"id": wire_id} | member
                    continue
                if part.tool == COMPUTER:
                    own.pop("toolset_name", None)
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


def _results(parts: Sequence[Part], ids: WireIds, toolset: Collection[str]) -> Iterator[JsonObject]:
    for part in parts:
        if not isinstance(part, ToolResultPart):
            continue
        text = neutral.result_text(part)
        media = [_media(found) for found in neutral.result_media(part)]
        content: str | list[JsonObject] = text if text.strip() else neutral.NO_OUTPUT
        if media:
            said: list[JsonObject] = [{"type": "text", "text": text}] if text.strip() else []
            content = [*said, *media]
        result: JsonObject = {
            "type": "tool_result",
            "tool_use_id": ids.result(part.call_id),
            "content": content,
        }
        if part.is_error:
            result["is_error"] = True
        if result["tool_use_id"] in toolset:
            result["toolset_name"] = TOOLSET
        yield result
