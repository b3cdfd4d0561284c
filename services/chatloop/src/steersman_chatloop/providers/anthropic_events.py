"""The events of the Messages API as step events. One content block becomes one part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from steersman_chatloop.providers.base import StepEnded, StepEvent
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import ReportedFault, StreamFault
from steersman_chatloop.providers.streaming import NONE, answered, number, says_something
from steersman_contracts.chats import StopReason, Usage
from steersman_contracts.computer_calls import TOOLSET
from steersman_contracts.computer_use import TOOL
from steersman_contracts.deltas import (
    PartAdded,
    PartClosed,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    parse_arguments,
)
from steersman_contracts.parts import (
    JsonObject,
    JsonPart,
    ProviderMetadata,
    SourcePart,
    ToolResultPart,
)

STOPS: Final[Mapping[str, StopReason]] = {
    "end_turn": "end",
    "max_tokens": "max-tokens",
    "stop_sequence": "stop-sequence",
    "tool_use": "tool-calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context-window",
}
_CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_KNOWN: Final = _CALLS | {"text", "thinking"}
_PIECES: Final = {"text_delta": "text", "thinking_delta": "thinking"}
_TRIVIAL: Final = frozenset({"type", "id", "name", "input", "text"})


class _Block:
    """A content block that is still arriving; `native` is what goes back one day."""

    __slots__ = ("given", "index", "kind", "native")

    def __init__(self, kind: str, index: int, native: JsonObject) -> None:
        self.given: list[str] | None = None if kind in _CALLS else []
        """The input of a call of the computer toolset, which becomes part of the arguments, or of a
        block that is no call for us."""
        self.kind = kind
        self.index = index
        self.native = native


class Translator:
    """Folds the events of one message."""

    def __init__(self, origin: Origin, ids: CallIds) -> None:
        self.finished = False
        self.complete = False
        self._origin = origin
        self._ids = ids
        self._blocks: dict[int, _Block] = {}
        self._next = 0
        # The end of a call waits for the stop reason: a call that a limit cut off stays open.
        self._closing: PartClosed | None = None
        self._tools: dict[str, str] = {}
        self._cited: set[str] = set()
        self._has_text = False
        self._has_calls = False
        self._stop: str | None = None
        self._usage: JsonObject = {}
        self.response_id = ""
        self._handlers: dict[str, Callable[[JsonObject], Sequence[StepEvent]]] = {
            "content_block_delta": self._delta,
            "content_block_start": self._started,
            "content_block_stop": self._stopped,
            "message_start": self._message_started,
            "message_delta": self._message_delta,
            "message_stop": self._message_stopped,
            "error": self._error,
        }
        self._starters: dict[str, Callable[[_Block], Sequence[StepEvent]]] = {
            "text": self._text,
            "thinking": self._thinking,
            "tool_use": self._tool_use,
            "server_tool_use": self._server_tool_use,
            "mcp_tool_use": self._server_tool_use,
        }

    def feed(self, event: JsonObject, /) -> Sequence[StepEvent]:
        handler = self._handlers.get(event.get("type", "error" if "error" in event else ""))
        return handler(event) if handler is not None else NONE

    def _error(self, event: JsonObject) -> Sequence[StepEvent]:
        raise ReportedFault(event)

    def _delta(self, event: JsonObject) -> Sequence[StepEvent]:
        block = self._blocks.get(event["index"])
        if block is None:
            return NONE
        delta: JsonObject = event["delta"]
        kind = delta["type"]
        if kind == "text_delta" and block.kind == "text":
            return self._said(block, delta["text"])
        if kind == "thinking_delta" and block.kind == "thinking":
            return (ReasoningDelta(block.index, delta["thinking"]),)
        if kind == "input_json_delta":
            text: str = delta["partial_json"]
            if block.given is not None:
                block.given.append(text)
                return NONE
            return (ToolArgumentsDelta(block.index, text),) if text else NONE
        if kind in _PIECES:  # of a kind of block that we do not know
            name = _PIECES[kind]
            block.native[name] = (block.native.get(name) or "") + delta[name]
        elif kind == "citations_delta":
            block.native["citations"] = [*(block.native.get("citations") or ()), delta["citation"]]
        else:
            # `signature_delta` and whatever comes one day carry whole values.
            block.native.update({k: v for k, v in delta.items() if k != "type"})
        return NONE

    def _started(self, event: JsonObject) -> Sequence[StepEvent]:
        native: JsonObject = event["content_block"]
        kind: str = native["type"]
        block = _Block(kind, self._next, native)
        self._next += 1
        self._blocks[event["index"]] = block
        starter = self._starters.get(kind)
        if starter is None:
            starter = self._server_result if kind.endswith("_tool_result") else self._opaque
        closing, self._closing = self._closing, None
        events = starter(block)
        return (closing, *events) if closing is not None else events

    def _text(self, block: _Block) -> Sequence[StepEvent]:
        text: str = block.native.get("text") or ""
        return self._said(block, text) if text else NONE

    def _said(self, block: _Block, text: str) -> Sequence[StepEvent]:
        if not self._has_text:
            self._has_text = says_something(text)
        return (TextDelta(block.index, text),)

    def _thinking(self, block: _Block) -> Sequence[StepEvent]:
        # Opened at once: its text may be left out, and then only a signature follows.
        return (ReasoningDelta(block.index, block.native.get("thinking") or ""),)

    def _tool_use(self, block: _Block) -> Sequence[StepEvent]:
        self._has_calls = True
        call_id = self._ids.take(block.native["id"])
        if block.native.get("toolset_name") == TOOLSET:
            block.given = []
            return (ToolCallStarted(block.index, call_id, TOOL),)
        return (ToolCallStarted(block.index, call_id, block.native["name"]),)

    def _server_tool_use(self, block: _Block) -> Sequence[StepEvent]:
        wire_id, name = block.native["id"], block.native["name"]
        self._tools[wire_id] = name
        return (ToolCallStarted(block.index, wire_id, name, provider_executed=True),)

    def _server_result(self, block: _Block) -> Sequence[StepEvent]:
        call_id = block.native.get("tool_use_id") or ""
        tool = self._tools.get(call_id) or block.kind.removesuffix("_tool_result")
        content: Any = block.native.get("content")
        is_error = isinstance(content, dict) and "error_code" in content
        result = ToolResultPart(
            call_id,
            tool,
            (JsonPart(_readable(content)),) if content else (),
            is_error=is_error or bool(block.native.get("is_error")),
            provider_executed=True,
        )
        return (PartAdded(block.index, result),)

    def _opaque(self, block: _Block) -> Sequence[StepEvent]:
        """Redacted thinking, and kinds that we do not know: kept for Anthropic, shown to nobody."""
        return (ReasoningDelta(block.index, ""),)

    def _stopped(self, event: JsonObject) -> Sequence[StepEvent]:
        block = self._blocks.pop(event["index"], None)
        if block is None:
            return NONE
        arguments = _arguments(block) if block.kind == "tool_use" else NONE
        if block.given and block.kind not in _KNOWN:
            block.native["input"] = parse_arguments("".join(block.given))[0]
        closed = PartClosed(block.index, self._metadata(block))
        if block.kind == "tool_use":
            self._closing = closed
            return arguments
        return (closed, *self._sources(block))

    def _metadata(self, block: _Block) -> ProviderMetadata | None:
        """The block, unless its neutral fields say it all; what they hold is not stored twice."""
        native = block.native
        match block.kind:
            case "text":
                if not native.get("citations"):
                    return None
                native["text"] = ""
            case "thinking":
                native["thinking"] = ""
            case "tool_use":
                if _TRIVIAL.issuperset(native):
                    return None
                native["input"] = {}
            case "server_tool_use" | "mcp_tool_use":
                native["input"] = {}
            case _:
                pass
        return self._origin.keep(native)

    def _sources(self, block: _Block) -> Sequence[StepEvent]:
        """The pages that a search found or a text cites, each once in a message."""
        if block.kind == "text":
            found = block.native.get("citations")
        else:
            found = block.native.get("content") if block.kind.endswith("_tool_result") else None
        if not isinstance(found, list):
            return NONE
        out: list[StepEvent] = []
        for item in cast("list[JsonObject]", found):
            url = item.get("url")
            if url and url not in self._cited:
                self._cited.add(url)
                out.append(PartAdded(self._next, SourcePart(url, item.get("title") or "")))
                self._next += 1
        return out

    def _message_started(self, event: JsonObject) -> Sequence[StepEvent]:
        message: JsonObject = event["message"]
        self.response_id = message.get("id") or ""
        self._use(message.get("usage"))
        return NONE

    def _message_delta(self, event: JsonObject) -> Sequence[StepEvent]:
        self._use(event.get("usage"))
        self._stop = event["delta"].get("stop_reason") or self._stop
        return NONE

    def _use(self, usage: JsonObject | None) -> None:
        # Running totals: later numbers replace earlier ones, null keeps them.
        self._usage.update({k: v for k, v in (usage or {}).items() if v is not None})

    def _message_stopped(self, event: JsonObject) -> Sequence[StepEvent]:
        self.finished = self.complete = self._stop is not None
        return NONE

    def end(self) -> Sequence[StepEvent]:
        if not self.finished:
            raise StreamFault("truncated", "the stream ended without message_stop")
        stop: StopReason = STOPS.get(self._stop or "", "unknown")
        if self._has_calls and stop == "end":
            stop = "tool-calls"  # servers that speak the format do not all know the difference
        answered(stop, has_text=self._has_text, has_calls=self._has_calls)
        ended = StepEnded(stop, _usage(self._usage), self.response_id)
        cut = stop in ("max-tokens", "context-window")
        if self._closing is None or cut:
            return (ended,)
        return (self._closing, ended)

    def used(self) -> Usage | None:
        return _usage(self._usage) if self._usage else None


def _arguments(block: _Block) -> Sequence[StepEvent]:
    """The arguments of a call of the computer toolset: the member is the action."""
    if block.given is None:
        return NONE
    text = "".join(block.given)
    given, invalid = parse_arguments(text)
    if invalid is None:
        text = msgspec.json.encode({**given, "action": block.native["name"]}).decode()
    return (ToolArgumentsDelta(block.index, text),)


def _readable(content: Any) -> Any:
    """The result without what only Anthropic can read."""
    if isinstance(content, list):
        return [_readable(item) for item in cast("list[Any]", content)]
    if isinstance(content, dict):
        items = cast("JsonObject", content).items()
        return {k: _readable(v) for k, v in items if not k.startswith("encrypted")}
    return content


def _usage(usage: JsonObject) -> Usage:
    read = number(usage, "cache_read_input_tokens")
    written = number(usage, "cache_creation_input_tokens")
    details: JsonObject = usage.get("output_tokens_details") or {}
    return Usage(
        input_tokens=number(usage, "input_tokens") + read + written,
        output_tokens=number(usage, "output_tokens"),
        reasoning_tokens=number(details, "thinking_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
