"""The chunks of generateContent as step events.

A part is what stands between two changes of kind or signature.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from steersman_chatloop.providers.base import StepEnded, StepEvent
from steersman_chatloop.providers.google_sources import ROOM, Place, Sources, places
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import ReportedFault, StreamFault
from steersman_chatloop.providers.streaming import NONE, answered, number, says_something
from steersman_contracts.chats import StopReason, Usage
from steersman_contracts.computer_calls import of_gemini
from steersman_contracts.computer_use import TOOL
from steersman_contracts.deltas import (
    PartAdded,
    PartClosed,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from steersman_contracts.parts import (
    FilePart,
    JsonObject,
    JsonPart,
    TextPart,
    ToolResultPart,
)

STOPS: Final[Mapping[str, StopReason]] = {
    "STOP": "end",
    "MAX_TOKENS": "max-tokens",
    "SAFETY": "content-filter",
    "RECITATION": "content-filter",
    "LANGUAGE": "content-filter",
    "BLOCKLIST": "content-filter",
    "PROHIBITED_CONTENT": "content-filter",
    "SPII": "content-filter",
    "MODEL_ARMOR": "content-filter",
    "IMAGE_SAFETY": "content-filter",
    "IMAGE_PROHIBITED_CONTENT": "content-filter",
    "IMAGE_RECITATION": "content-filter",
    "ESCALATION": "content-filter",
    "CONTINUATION": "pause",
}
_MALFORMED: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    }
)
_SERVER_TOOLS: Final = {
    "GOOGLE_SEARCH_WEB": "web_search",
    "GOOGLE_SEARCH_IMAGE": "image_search",
    "URL_CONTEXT": "web_fetch",
}
_SIGNATURE_ALONE: Final = frozenset({"thoughtSignature", "thought"})
_NO_OBJECT: Final[JsonObject] = {}
_LONGEST_TYPE: Final = 127

_Handler: TypeAlias = Callable[[Any, JsonObject, list[StepEvent]], None]


class Translator:
    """Folds the chunks of one answer."""

    def __init__(
        self,
        origin: Origin,
        ids: CallIds,
        *,
        screen: tuple[int, int] | None = None,
        functions: Collection[str] = (),
        searches: bool = False,
    ) -> None:
        """Begin an answer.

        Args:
            origin: Of the answer.
            ids: For its calls.
            screen: The size of the screen, if Google's own form of the computer tool is declared.
            functions: The names of all other tools.
            searches: Whether it may search, so that sources may follow which have their place in
                the middle of the answer.
        """
        self._rooms: list[Place] | None = [] if searches else None
        self._length = 0
        self._text_from = 0
        self._screen = screen
        self._functions = functions
        self.finished = False
        self.complete = False  # only the end of the body says so
        self.continuation: str | None = None
        """What the next request must carry to get the rest of this same answer."""
        self._origin = origin
        self._ids = ids
        self._next = 0
        self._text_at: int | None = None
        # The parts that an open text is made of: lengths, and the signatures that came on them.
        self._segments: list[JsonObject] = []
        self._unsigned = 0
        self._reasoning_at: int | None = None
        self._code_id = ""
        self._server_calls: dict[str, tuple[str, str]] = {}
        self._has_text = False
        self._has_calls = False
        self._stop = ""
        self._usage: JsonObject | None = None
        self._counted = Usage()
        self.response_id = ""
        self._sources = Sources()
        self._said: list[str] = []

    def feed(self, event: JsonObject, /) -> Sequence[StepEvent]:
        usage = event.get("usageMetadata")
        if usage is not None and usage.get("promptTokenCount") is not None:
            self._usage = usage  # a running total; Vertex sends others without numbers first
        if not self.response_id:
            self.response_id = event.get("responseId") or ""
        candidates = event.get("candidates")
        if not candidates:
            if "error" in event:
                raise ReportedFault(event)
            if reason := (event.get("promptFeedback") or _NO_OBJECT).get("blockReason"):
                raise StreamFault("content_filter", f"prompt blocked: {reason}")
            return NONE
        candidate: JsonObject = candidates[0]
        content = candidate.get("content")
        parts = content.get("parts") if content else None
        out = self._parts(parts) if parts else NONE
        if grounding := candidate.get("groundingMetadata"):
            self._sources.ground(grounding)
        if citations := candidate.get("citationMetadata"):
            self._sources.cite(citations)
        if (reason := candidate.get("finishReason")) is not None:
            self._finish(reason, candidate)
        return out

    def _parts(self, parts: Sequence[JsonObject]) -> Sequence[StepEvent]:
        out: list[StepEvent] = []
        for part in parts:
            text = part.get("text")
            if text is None:
                self._other(part, out)
            elif part.get("thoughtSignature"):
                self._signed_text(part, text, out)
            elif text:
                self._plain_text(text, out, thought=bool(part.get("thought")))
        return out

    def _plain_text(self, text: str, out: list[StepEvent], *, thought: bool) -> None:
        if not thought:
            self._say(text, out)
            self._unsigned += len(text)
            return
        if self._reasoning_at is None:
            self._close(out)
            self._reasoning_at = self._open()
        out.append(ReasoningDelta(self._reasoning_at, text))

    def _say(self, text: str, out: list[StepEvent]) -> None:
        if self._text_at is None:
            self._close(out)
            self._text_at = self._open()
        if not self._has_text:
            self._has_text = says_something(text)
        self._said.append(text)
        self._length += len(text)
        out.append(TextDelta(self._text_at, text))

    def _signed_text(self, part: JsonObject, text: str, out: list[StepEvent]) -> None:
        """A signature goes back on exactly the part that it came on, though we show one text."""
        if not part.get("thought"):
            self._say(text, out)
            self._end_segment()
            self._segments.append({"length": len(text)} | _signature(part))
            return
        self._close(out)
        index = self._open()
        out.append(ReasoningDelta(index, text))
        native: JsonObject = {"text": "", "thought": True}
        out.append(PartClosed(index, self._origin.keep(native | _signature(part))))

    def _end_segment(self) -> None:
        if self._unsigned:
            self._segments.append({"length": self._unsigned})
            self._unsigned = 0

    def _other(self, part: JsonObject, out: list[StepEvent]) -> None:
        self._close(out)
        for name, handler in self._HANDLERS.items():
            if part.get(name) is not None:
                handler(self, part, out)
                return
        if part.keys() <= _SIGNATURE_ALONE:
            if part.get("thoughtSignature"):
                self._signed_text(part, "", out)
            return
        # A kind that we do not know: kept for Google, shown to nobody.
        index = self._open()
        out.append(ReasoningDelta(index, ""))
        out.append(PartClosed(index, self._origin.keep(part)))

    def _call(self, part: JsonObject, out: list[StepEvent]) -> None:
        self._has_calls = True
        call: JsonObject = part["functionCall"]
        index = self._open()
        name: str = call.get("name") or ""
        wire_id: str | None = call.get("id")
        arguments: JsonObject = call.get("args") or {}
        tool = name
        own_args: JsonObject = {}
        if self._screen is not None and name not in self._functions:
            found = of_gemini(name, arguments, self._screen)
            if found is not None:
                tool, own_args, arguments = TOOL, arguments, found
        out.append(ToolCallStarted(index, self._ids.take(wire_id), tool))
        out.append(ToolArgumentsDelta(index, msgspec.json.encode(arguments).decode()))
        signature = _signature(part)
        metadata = None
        if wire_id or signature or tool != name:
            with_id: JsonObject = {"id": wire_id} if wire_id else {}
            # The arguments are in the part already, unless they were Google's own.
            native: JsonObject = {"functionCall": with_id | {"name": name, "args": own_args}}
            metadata = self._origin.keep(native | signature)
        out.append(PartClosed(index, metadata))

    def _media(self, part: JsonObject, out: list[StepEvent]) -> None:
        self._has_text = True
        index = self._open()
        blob: JsonObject = part["inlineData"]
        media_type = (blob.get("mimeType") or "application/octet-stream")[:_LONGEST_TYPE]
        try:
            data = base64.b64decode(_standard(blob.get("data") or ""), validate=True)
        except ValueError as error:
            raise StreamFault("malformed_response", "a file is not base64") from error
        out.append(PartAdded(index, FilePart(media_type, data=data)))
        out.append(PartClosed(index, self._origin.keep(_signature(part))))

    def _code(self, part: JsonObject, out: list[StepEvent]) -> None:
        index = self._open()
        code: JsonObject = part["executableCode"]
        self._code_id = self._ids.take(code.get("id"))
        arguments = {key: code[key] for key in ("language", "code") if key in code}
        out.append(ToolCallStarted(index, self._code_id, "code_execution", provider_executed=True))
        out.append(ToolArgumentsDelta(index, msgspec.json.encode(arguments).decode()))
        out.append(PartClosed(index, self._origin.keep(part)))

    def _code_result(self, part: JsonObject, out: list[StepEvent]) -> None:
        index = self._open()
        result: JsonObject = part["codeExecutionResult"]
        output: str = result.get("output") or ""
        content = (TextPart(output),) if output else ()
        is_error = result.get("outcome") != "OUTCOME_OK"
        added = ToolResultPart(
            self._code_id, "code_execution", content, is_error=is_error, provider_executed=True
        )
        out.append(PartAdded(index, added))
        out.append(PartClosed(index, self._origin.keep(part)))

    def _server_call(self, part: JsonObject, out: list[StepEvent]) -> None:
        """A call of a tool that Google runs: a search, most of the time."""
        index = self._open()
        call: JsonObject = part["toolCall"]
        call_id = self._ids.take(call.get("id"))
        tool = _SERVER_TOOLS.get(call.get("toolType") or "") or str(call.get("toolType")).lower()
        self._server_calls[call.get("id") or ""] = call_id, tool
        out.append(ToolCallStarted(index, call_id, tool, provider_executed=True))
        arguments: JsonObject = call.get("args") or {}
        out.append(ToolArgumentsDelta(index, msgspec.json.encode(arguments).decode()))
        out.append(PartClosed(index, self._origin.keep(part)))

    def _server_result(self, part: JsonObject, out: list[StepEvent]) -> None:
        response: JsonObject = part["toolResponse"]
        known = self._server_calls.get(response.get("id") or "")
        if known is None:
            return  # nothing that could go back: a result needs its call
        index = self._open()
        found = response.get("response")
        added = ToolResultPart(
            *known,
            (JsonPart(readable(found)),) if found else (),
            provider_executed=True,
        )
        out.append(PartAdded(index, added))
        out.append(PartClosed(index, self._origin.keep(part)))
        self._leave_room(self._length, None)

    _HANDLERS: Final[Mapping[str, _Handler]] = {
        "functionCall": _call,
        "inlineData": _media,
        "executableCode": _code,
        "codeExecutionResult": _code_result,
        "toolCall": _server_call,
        "toolResponse": _server_result,
    }

    def _open(self) -> int:
        index = self._next
        self._next += 1
        return index

    def _close(self, out: list[StepEvent]) -> None:
        if self._text_at is not None:
            metadata = None
            if self._segments:
                self._end_segment()
                metadata = self._origin.keep({"segments": self._segments})
            out.append(PartClosed(self._text_at, metadata))
            self._leave_room(self._text_from, self._length)
            self._text_from = self._length
        if self._reasoning_at is not None:
            out.append(PartClosed(self._reasoning_at))
        self._text_at = self._reasoning_at = None
        self._segments = []
        self._unsigned = 0

    def _leave_room(self, start: int, end: int | None) -> None:
        if self._rooms is not None:
            self._rooms.append(Place(self._next, start, end))
            self._next += ROOM

    def _finish(self, reason: str, candidate: JsonObject) -> None:
        if reason in _MALFORMED:
            raise StreamFault(reason.lower(), candidate.get("finishMessage") or reason)
        token: str | None = candidate.get("continuationToken")
        if reason == "CONTINUATION" and token:
            self.continuation = token
            return
        self._stop = reason
        self.finished = True

    def continued(self) -> str | None:
        """Take the token for the rest of the answer, if it goes on in another request."""
        token, self.continuation = self.continuation, None
        if token is not None:
            self._counted = _added(self._counted, self._usage)
            self._usage = None
        return token

    def end(self) -> Sequence[StepEvent]:
        if not self.finished:
            raise StreamFault("truncated", "the stream ended without a finish reason")
        stop: StopReason = STOPS.get(self._stop, "unknown")
        if self._has_calls and stop == "end":
            stop = "tool-calls"
        answered(stop, has_text=self._has_text, has_calls=self._has_calls)
        out: list[StepEvent] = []
        self._close(out)
        sources = self._sources.parts("".join(self._said))
        out.extend(PartAdded(*one) for one in places(sources, self._rooms or [], self._next))
        out.append(StepEnded(stop, self.used(), self.response_id))
        return out

    def used(self) -> Usage | None:
        counted = self._usage is not None or self._counted != Usage()
        return _added(self._counted, self._usage) if counted else None


def readable(content: Any) -> Any:
    """A result without what only the provider can read."""
    if isinstance(content, list):
        return [readable(item) for item in cast("list[Any]", content)]
    if isinstance(content, dict):
        items = cast("JsonObject", content).items()
        return {k: readable(v) for k, v in items if not k.lower().startswith("encrypted")}
    return content


def _standard(data: str) -> str:
    """Base64 in the common alphabet, padded."""
    plain = data.replace("-", "+").replace("_", "/")
    return plain + "=" * (-len(plain) % 4)


def _signature(part: JsonObject) -> JsonObject:
    signature = part.get("thoughtSignature")
    return {"thoughtSignature": signature} if signature else {}


def _added(before: Usage, usage: JsonObject | None) -> Usage:
    if usage is None:
        return before
    thoughts = number(usage, "thoughtsTokenCount")
    prompt = number(usage, "promptTokenCount") + number(usage, "toolUsePromptTokenCount")
    return Usage(
        input_tokens=before.input_tokens + prompt,
        output_tokens=before.output_tokens + number(usage, "candidatesTokenCount") + thoughts,
        reasoning_tokens=before.reasoning_tokens + thoughts,
        cache_read_tokens=before.cache_read_tokens + number(usage, "cachedContentTokenCount"),
    )
