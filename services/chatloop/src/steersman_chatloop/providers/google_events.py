"""The chunks of generateContent as step events.

Chunks are the SDK's objects, whose fields are None when absent; a part is what stands between two
changes of kind or signature.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from steersman_chatloop.providers.base import StepEnded, StepEvent
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import StreamFault
from steersman_chatloop.providers.streaming import NONE, answered
from steersman_contracts.chats import StopReason, Usage
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
    SourcePart,
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


class Chunk(Protocol):
    """What is read of the SDK's `GenerateContentResponse`."""

    @property
    def candidates(self) -> Sequence[Any] | None: ...
    @property
    def prompt_feedback(self) -> Any: ...
    @property
    def usage_metadata(self) -> Any: ...
    @property
    def response_id(self) -> str | None: ...


class Translator:
    """Folds the chunks of one answer."""

    def __init__(self, origin: Origin, ids: CallIds) -> None:
        self.finished = False
        self.complete = False  # only the end of the body says so
        self._origin = origin
        self._ids = ids
        self._next = 0
        self._text_at: int | None = None
        # The parts that an open text is made of: lengths, and the signatures that came on them.
        self._segments: list[JsonObject] = []
        self._unsigned = 0
        self._reasoning_at: int | None = None
        self._code_id = ""
        self._has_text = False
        self._has_calls = False
        self._stop = ""
        self._message = ""
        self._usage: Any = None
        self._response_id = ""
        self._sources: dict[str, str] = {}

    def feed(self, event: Chunk, /) -> Sequence[StepEvent]:
        usage = event.usage_metadata
        if usage is not None and usage.prompt_token_count is not None:
            self._usage = usage  # a running total; Vertex sends others without numbers first
        candidates = event.candidates
        if not candidates:
            feedback = event.prompt_feedback
            if feedback is not None and feedback.block_reason is not None:
                raise StreamFault(
                    "content_filter", f"prompt blocked: {_word(feedback.block_reason)}"
                )
            return NONE
        candidate = candidates[0]
        content = candidate.content
        parts = content.parts if content is not None else None
        out = self._parts(parts) if parts else NONE
        if candidate.grounding_metadata is not None:
            self._ground(candidate.grounding_metadata)
        if candidate.finish_reason is not None:
            self._response_id = event.response_id or ""
            self._finish(_word(candidate.finish_reason), candidate.finish_message or "")
        return out

    def _parts(self, parts: Sequence[Any]) -> Sequence[StepEvent]:
        out: list[StepEvent] = []
        for part in parts:
            text = part.text
            if text is None:
                self._other(part, out)
            elif part.thought_signature is not None:
                self._signed_text(part, text, out)
            elif text:
                self._plain_text(text, out, thought=bool(part.thought))
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
        self._has_text = self._has_text or bool(text)
        out.append(TextDelta(self._text_at, text))

    def _signed_text(self, part: Any, text: str, out: list[StepEvent]) -> None:
        """A signature goes back on exactly the part that it came on, though we show one text."""
        if not part.thought:
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

    def _other(self, part: Any, out: list[StepEvent]) -> None:
        self._close(out)
        if part.function_call is not None:
            self._call(part, out)
        elif part.inline_data is not None:
            self._media(part, out)
        elif part.executable_code is not None:
            self._code(part, out)
        elif part.code_execution_result is not None:
            self._code_result(part, out)
        elif part.thought_signature is not None:
            self._signed_text(part, "", out)

    def _call(self, part: Any, out: list[StepEvent]) -> None:
        self._has_calls = True
        call = part.function_call
        index = self._open()
        name: str = call.name or ""
        arguments: JsonObject = call.args or {}
        out.append(ToolCallStarted(index, self._ids.take(call.id), name))
        out.append(ToolArgumentsDelta(index, msgspec.json.encode(arguments).decode()))
        signature = _signature(part)
        metadata = None
        if call.id or signature:
            with_id: JsonObject = {"id": call.id} if call.id else {}
            # The arguments are in the part already.
            native: JsonObject = {"functionCall": with_id | {"name": name, "args": {}}}
            metadata = self._origin.keep(native | signature)
        out.append(PartClosed(index, metadata))

    def _media(self, part: Any, out: list[StepEvent]) -> None:
        self._has_text = True
        index = self._open()
        blob = part.inline_data
        media_type = blob.mime_type or "application/octet-stream"
        out.append(PartAdded(index, FilePart(media_type, data=blob.data)))
        out.append(PartClosed(index, self._origin.keep(_signature(part))))

    def _code(self, part: Any, out: list[StepEvent]) -> None:
        self._has_text = True
        index = self._open()
        code = part.executable_code
        arguments = {"language": _word(code.language), "code": code.code or ""}
        self._code_id = self._ids.take(None)
        out.append(ToolCallStarted(index, self._code_id, "code_execution", provider_executed=True))
        out.append(ToolArgumentsDelta(index, msgspec.json.encode(arguments).decode()))
        native: JsonObject = {"executableCode": arguments} | _signature(part)
        out.append(PartClosed(index, self._origin.keep(native)))

    def _code_result(self, part: Any, out: list[StepEvent]) -> None:
        index = self._open()
        result = part.code_execution_result
        outcome, output = _word(result.outcome), result.output or ""
        content = (TextPart(output),) if output else ()
        is_error = outcome != "OUTCOME_OK"
        added = ToolResultPart(
            self._code_id, "code_execution", content, is_error=is_error, provider_executed=True
        )
        out.append(PartAdded(index, added))
        native: JsonObject = {"codeExecutionResult": {"outcome": outcome, "output": output}}
        out.append(PartClosed(index, self._origin.keep(native | _signature(part))))

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
        if self._reasoning_at is not None:
            out.append(PartClosed(self._reasoning_at))
        self._text_at = self._reasoning_at = None
        self._segments = []
        self._unsigned = 0

    def _ground(self, grounding: Any) -> None:
        for chunk in grounding.grounding_chunks or ():
            if chunk.web is not None and chunk.web.uri:
                self._sources.setdefault(chunk.web.uri, chunk.web.title or "")

    def _finish(self, reason: str, message: str) -> None:
        if reason in _MALFORMED:
            raise StreamFault(reason.lower(), message or reason)
        self._stop = reason
        self._message = message
        self.finished = True

    def end(self) -> Sequence[StepEvent]:
        if not self.finished:
            raise StreamFault("truncated", "the stream ended without a finish reason")
        stop: StopReason = STOPS.get(self._stop, "unknown")
        if self._has_calls and stop == "end":
            stop = "tool-calls"
        answered(stop, has_text=self._has_text, has_calls=self._has_calls)
        out: list[StepEvent] = []
        self._close(out)
        for url, title in self._sources.items():
            out.append(PartAdded(self._open(), SourcePart(url, title)))
        out.append(StepEnded(stop, _usage(self._usage), self._response_id))
        return out


def _word(value: Any) -> str:
    """The name of an enum member, also of one that the SDK made up for an unknown value."""
    return str(getattr(value, "value", value))


def _signature(part: Any) -> JsonObject:
    signature: bytes | None = part.thought_signature
    if signature is None:
        return {}
    return {"thoughtSignature": base64.b64encode(signature).decode()}


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    thoughts: int = usage.thoughts_token_count or 0
    return Usage(
        input_tokens=usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0),
        output_tokens=(usage.candidates_token_count or 0) + thoughts,
        reasoning_tokens=thoughts,
        cache_read_tokens=usage.cached_content_token_count or 0,
    )
