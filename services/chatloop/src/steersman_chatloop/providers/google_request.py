"""A step as a request of Gemini's generateContent, as it stands on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from steersman_chatloop.providers import answer_form, computer, foreign, neutral, tuning
from steersman_chatloop.providers.addresses import GOOGLE_URL, host_of
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.native import Origin, WireIds, metadata_of
from steersman_chatloop.providers.plain import plain
from steersman_contracts.chats import Message, Role
from steersman_contracts.computer_providers import gemini_tool
from steersman_contracts.computer_use import TOOL
from steersman_contracts.model_options import Effort, GoogleOptions
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

FORMAT: Final = "google"

# The documented stand-in for the signature of a call that another model made.
SKIP_SIGNATURE: Final = "skip_thought_signature_validator"

NO_URL: Final = "about:blank"
"""The set of functions for browsers wants an address with each answer; a desktop has none."""

_OLDER: Final = re.compile(r"(?:models/)?(?:gemini-[12]\b|gemma|learnlm)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")


def to_request(request: StepRequest) -> JsonObject:
    """Build the body of the request."""
    request = foreign.told(request, FORMAT)
    access = request.model
    options = tuning.options(access, GoogleOptions)
    body: JsonObject = {
        "contents": _contents(request),
        "generationConfig": _config(request, options),
    }
    if options.safety_settings:
        body["safetySettings"] = [msgspec.to_builtins(one) for one in options.safety_settings]
    body |= _plain(options)
    if options.cached_content is not None:
        # Holds the system prompt and the tools: neither may be sent beside it.
        return body | {"cachedContent": options.cached_content}
    if request.system.strip():
        body["systemInstruction"] = {"parts": [{"text": request.system}]}
    tools: list[JsonObject] = []
    environment = computer_environment(request)
    own_form = None if environment is None else computer.spec_of(request.tools)
    functions = [tool for tool in tuning.offered(request.tools) if tool is not own_form]
    if functions:
        declarations = [
            {
                "name": _name(tool.name),
                "description": tool.description,
                "parametersJsonSchema": tool.input_schema,
            }
            for tool in functions
        ]
        tools.append({"functionDeclarations": declarations})
    if environment is not None:
        tools.append(gemini_tool(environment, {_name(tool.name) for tool in functions}))
    if searches(access, has_tools=bool(request.tools)):
        tools.append({"googleSearch": {}})
        if request.tools:
            body["toolConfig"] = {"includeServerSideToolInvocations": True}
    if tools:
        body["tools"] = tools
    if request.tools and request.tool_choice == "none":
        config = body.setdefault("toolConfig", {})
        config["functionCallingConfig"] = {"mode": "NONE"}
    return body


def _plain(options: GoogleOptions) -> JsonObject:
    """The options that are fields of the request, as they are."""
    found = {
        "serviceTier": options.service_tier,
        "labels": options.labels,
        "store": options.store,
    }
    return {name: value for name, value in found.items() if value is not None}


def computer_environment(request: StepRequest) -> computer.Environment | None:
    """The environment that the computer tool is declared with; None: not in Google's own form."""
    options = tuning.options(request.model, GoogleOptions)
    if options.cached_content is not None:
        return None  # which tools it holds is not known here
    return computer.gemini_environment(request, options.computer_use)


def searches(access: ModelAccess, *, has_tools: bool) -> bool:
    """Say whether the model is offered Google's search.

    Beside other tools only the Gemini API offers it, and only to Gemini 3 and later.
    """
    if not tuning.options(access, GoogleOptions).web_search_enabled:
        return False
    on_vertex = access.provider_type == "google-vertex" or "aiplatform" in host_of(
        access.base_url, GOOGLE_URL
    )
    return not has_tools or (is_third_generation(access.model_id) and not on_vertex)


def unsent(access: ModelAccess) -> Iterator[str]:
    """The settings that do not reach the model."""
    options = tuning.options(access, GoogleOptions)
    if options.web_search_enabled and not searches(access, has_tools=access.tools):
        yield "options.web_search_enabled"


def _config(request: StepRequest, options: GoogleOptions) -> JsonObject:
    access = request.model
    config: JsonObject = {"maxOutputTokens": access.max_output_tokens}
    for name, value in tuning.sampling(access.settings, _SAMPLED).items():
        config[_SAMPLED[name]] = value
    if options.seed is not None:
        config["seed"] = options.seed
    if options.stop_sequences:
        config["stopSequences"] = list(options.stop_sequences)
    if options.media_resolution is not None:
        config["mediaResolution"] = f"MEDIA_RESOLUTION_{options.media_resolution.upper()}"
    if thinking := _thinking(request, options):
        config["thinkingConfig"] = thinking
    if request.response_schema is not None and not request.tools:
        config |= answer_form.for_google(request.response_schema)
    return config


_SAMPLED: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_LEVELS: Final[tuple[Effort, ...]] = ("minimal", "low", "medium", "high", "xhigh")
_BUDGETS: Final[Mapping[Effort, int]] = {
    "none": 0,
    "minimal": 512,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 24_576,
}
_THINKS: Final = re.compile(r"(?:models/)?gemini-(?:2\.5|[3-9]|\d\d)|.*(?:thinking|latest)")


def _thinking(request: StepRequest, options: GoogleOptions) -> JsonObject:
    """Whether and how hard the model thinks, and whether it shows that: not every model can."""
    model_id = request.model.model_id
    effort = tuning.effort(request)
    third = is_third_generation(model_id)
    budget, level = options.thinking_budget, options.thinking_level
    if request.effort is not None or (budget is None and level is None):
        budget = level = None
        if effort is not None and third:
            # "none" is as little as there is.
            near = tuning.nearest("minimal" if effort == "none" else effort, _LEVELS)
            level = near if near in _LEVELS else None
        elif effort is not None and _THINKS.match(model_id):
            budget = max(_BUDGETS[effort], 128) if "pro" in model_id else _BUDGETS[effort]
    out: JsonObject = {}
    if options.include_thoughts and budget != 0 and _THINKS.match(model_id):
        out["includeThoughts"] = True
    if level is not None:
        out["thinkingLevel"] = level.upper()
    elif budget is not None:
        out["thinkingBudget"] = budget
    return out


def is_third_generation(model_id: str) -> bool:
    """Gemini 3 and later: signatures are required, and results of tools may hold images."""
    return _OLDER.match(model_id) is None


def _contents(request: StepRequest) -> list[JsonObject]:
    origin = Origin(FORMAT, request.model)
    third = is_third_generation(request.model.model_id)
    writer = _Writer(origin, third=third, environment=computer_environment(request))
    contents = request.beginning.items(request.messages, FORMAT, _said)
    if contents:
        contents.pop()  # what follows may become a part of the last one, which is not to change
    for message in request.messages[len(contents) :]:
        role = "model" if message.role is Role.ASSISTANT else "user"
        parts = list(writer.parts(message))
        if not parts:
            continue
        if role == "model" and contents and contents[-1]["role"] == "model":
            contents[-1]["parts"] += parts  # a call may only follow a user's turn
        else:
            contents.append({"role": role, "parts": parts})
    if contents and contents[-1]["role"] == "model":
        contents.append({"role": "user", "parts": [{"text": neutral.CONTINUE}]})
    return contents


def _said(text: str, by_model: bool) -> JsonObject:  # as `plain.Write` is called
    return {"role": "model" if by_model else "user", "parts": [{"text": text}]}


class _Writer:
    """Writes messages in order; remembers which calls went out with an id."""

    def __init__(
        self, origin: Origin, *, third: bool, environment: computer.Environment | None
    ) -> None:
        self._origin = origin
        self._third = third
        self._environment = environment
        self._own_forms: dict[str, JsonObject] = {}
        self._ids = WireIds()
        self._with_id: dict[str, str] = {}

    def parts(self, message: Message) -> Iterator[JsonObject]:
        if (text := plain(message)) is not None:
            yield {"text": text}
            return
        match message.role:
            case Role.ASSISTANT:
                yield from self._output(message.parts)
            case Role.TOOL:
                yield from self._results(message.parts)
            case Role.SYSTEM:
                yield {"text": f"<system>\n{neutral.input_texts(message.parts)}\n</system>"}
            case Role.USER:
                yield from _input(message.parts)

    def _output(self, parts: Sequence[Part]) -> Iterator[JsonObject]:
        native_calls: set[str] = set()
        signed = any(
            isinstance(part, ToolCallPart) and self._signature(part) is not None for part in parts
        )
        for part in parts:
            native = self._native(part)
            match part:
                case TextPart():
                    yield from _text(part.text, native)
                case ReasoningPart():
                    if native is not None:
                        # A part of a kind that we do not know has no text.
                        yield native | {"text": part.text} if "text" in native else native
                case ToolCallPart(provider_executed=False):
                    yield self._call(part, native, sign=self._third and not signed)
                    signed = True
                case ToolCallPart() | ToolResultPart() if native is not None:
                    native_calls.add(part.call_id)
                    yield native
                case FilePart() if native is not None and part.data:
                    yield native | {"inlineData": _blob(part)}
                case SourcePart():
                    pass
                case _:
                    if text := neutral.flatten(part):
                        yield {"text": text}

    def _native(self, part: Part) -> JsonObject | None:
        """The part as it came; a function of Google's own form only where that is declared."""
        native = self._origin.native(metadata_of(part))
        if native is None or not isinstance(part, ToolCallPart) or part.tool != TOOL:
            return native
        is_own = native["functionCall"]["name"] != _name(TOOL)
        return None if is_own and self._environment is None else native

    def _signature(self, part: ToolCallPart) -> str | None:
        native = self._native(part)
        return native.get("thoughtSignature") if native is not None else None

    def _call(self, part: ToolCallPart, native: JsonObject | None, *, sign: bool) -> JsonObject:
        # Ids go back only if they came with the call: the API pairs by place and name.
        self._with_id.pop(part.call_id, None)
        self._own_forms.pop(part.call_id, None)
        if native is not None and part.tool == TOOL:
            own: JsonObject = native["functionCall"]
            if own["name"] != _name(TOOL):
                self._own_forms[part.call_id] = own
                if wire_id := own.get("id"):
                    self._with_id[part.call_id] = wire_id
                return native
        call: JsonObject = {"name": _name(part.tool), "args": part.arguments}
        if native is not None:
            call = native["functionCall"] | call
            if wire_id := call.get("id"):
                self._with_id[part.call_id] = wire_id
            return native | {"functionCall": call}
        return {"functionCall": call} | ({"thoughtSignature": SKIP_SIGNATURE} if sign else {})

    def _results(self, parts: Sequence[Part]) -> Iterator[JsonObject]:
        beside: list[JsonObject] = []
        for part in parts:
            if not isinstance(part, ToolResultPart):
                continue
            text = neutral.result_text(part)
            media = [{"inlineData": _media(found)} for found in neutral.result_media(part)]
            result: JsonObject = {}
            if wire_id := self._with_id.get(part.call_id):
                result["id"] = wire_id
            own = self._own_forms.pop(part.call_id, None)
            result["name"] = _name(part.tool) if own is None else own["name"]
            result["response"] = {"error" if part.is_error else "output": text or neutral.NO_OUTPUT}
            if own is not None:
                result["response"] |= self._about_screen(part, own)
            if media and (self._third or own is not None):
                result["parts"] = media
            else:
                beside += media
            yield {"functionResponse": result}
        yield from beside

    def _about_screen(self, part: ToolResultPart, own: JsonObject) -> JsonObject:
        """What the answer to a function of Google's own form has beside its text."""
        said: JsonObject = {}
        if self._environment == "browser":
            said["url"] = NO_URL
        if computer.safety_decision(own.get("args") or {}) and not part.is_error:
            said["safety_acknowledgement"] = "true"  # it was run, so a person has said yes
        return said


def _text(text: str, native: JsonObject | None) -> Iterator[JsonObject]:
    """A text as the parts in which it came, so that each signature is on its own."""
    segments: list[JsonObject] = (native or {}).get("segments") or []
    if sum(segment["length"] for segment in segments) != len(text):
        segments = []
    at = 0
    for segment in segments:
        signature = {k: v for k, v in segment.items() if k != "length"}
        yield {"text": text[at : at + segment["length"]]} | signature
        at += segment["length"]
    if not segments and text.strip():
        yield {"text": text}


def _name(tool: str) -> str:
    """The name of a tool as Gemini takes it; ours may begin with a digit."""
    return tool if _NAME.fullmatch(tool) else f"_{tool}"[:64]


def _input(parts: Sequence[Part]) -> Iterator[JsonObject]:
    for part in parts:
        if (media := neutral.media(part)) is not None:
            yield {"inlineData": _media(media)}
        elif text := neutral.input_text(part):
            yield {"text": text}


def _media(media: neutral.Media) -> JsonObject:
    return {"mimeType": media.media_type, "data": media.data}


def _blob(part: FilePart) -> JsonObject:
    return {"mimeType": part.media_type, "data": msgspec.to_builtins(part.data)}
