"""The events of the Responses API as step events. One output item becomes one part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from steersman_chatloop.providers.base import StepEnded, StepEvent
from steersman_chatloop.providers.computer import OPENAI_ITEM
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import StreamFault
from steersman_chatloop.providers.streaming import NONE, answered, number, says_something
from steersman_contracts.chats import StopReason, Usage
from steersman_contracts.computer_calls import of_openai
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
    JsonObject,
    JsonPart,
    ProviderMetadata,
    SourcePart,
    ToolResultPart,
)

Kind: TypeAlias = Literal["text", "reasoning", "call", "computer", "hosted"]

_KINDS: Final[Mapping[str, Kind]] = {
    "message": "text",
    "reasoning": "reasoning",
    "function_call": "call",
    OPENAI_ITEM: "computer",
}
_INCOMPLETE: Final[Mapping[str, StopReason]] = {
    "max_output_tokens": "max-tokens",
    "content_filter": "content-filter",
}
_NO_OBJECT: Final[JsonObject] = {}


class _Item:
    """An output item that is still arriving."""

    __slots__ = ("call_id", "index", "kind", "said", "sources", "tool")

    def __init__(self, kind: Kind, index: int) -> None:
        self.kind: Kind = kind
        self.index = index
        self.said = False
        self.call_id = ""
        self.tool = ""
        self.sources: list[JsonObject] = []


class Translator:
    """Folds the events of one response."""

    def __init__(self, origin: Origin, ids: CallIds, *, prefix: str = "") -> None:
        """Begin a response; `prefix` is the digest of its input, if the server keeps it."""
        self.finished = False
        self.complete = False
        self.response_id = ""
        self._origin = origin
        self._ids = ids
        self._items: dict[int, _Item] = {}
        self._next = 0
        self._thought = False
        self._has_text = False
        self._has_calls = False
        self._refused = False
        self._cited: set[str] = set()
        self._response: JsonObject = {}
        self._prefix = prefix
        self._last: PartClosed | None = None
        self._handlers: dict[str, Callable[[JsonObject], Sequence[StepEvent]]] = {
            "response.created": self._created,
            "response.output_text.delta": self._text,
            "response.refusal.delta": self._refusal,
            "response.reasoning_summary_text.delta": self._reasoning,
            "response.reasoning_text.delta": self._reasoning,
            "response.reasoning_summary_part.added": self._summary_part,
            "response.function_call_arguments.delta": self._arguments,
            "response.output_item.added": self._added,
            "response.output_item.done": self._done,
            "response.output_text.annotation.added": self._annotation,
            "response.completed": self._ended,
            "response.incomplete": self._ended,
            "response.failed": self._failed,
            "error": self._error,
        }

    def feed(self, event: JsonObject, /) -> Sequence[StepEvent]:
        handler = self._handlers.get(event.get("type", "error" if "error" in event else ""))
        return handler(event) if handler is not None else NONE

    def _created(self, event: JsonObject) -> Sequence[StepEvent]:
        response: JsonObject = event.get("response") or _NO_OBJECT
        self.response_id = response.get("id") or ""
        return NONE

    def _open(self, kind: Kind, event: JsonObject) -> _Item:
        item = _Item(kind, self._next)
        self._next += 1
        self._items[event["output_index"]] = item
        return item

    def _text(self, event: JsonObject) -> Sequence[StepEvent]:
        item = self._items.get(event["output_index"]) or self._open("text", event)
        if item.kind != "text":
            return NONE  # words of an item that has none, as far as we know
        item.said = True
        text: str = event["delta"]
        if not self._has_text:
            self._has_text = says_something(text)
        return (TextDelta(item.index, text),)

    def _refusal(self, event: JsonObject) -> Sequence[StepEvent]:
        self._refused = True
        return self._text(event)

    def _reasoning(self, event: JsonObject) -> Sequence[StepEvent]:
        item = self._items.get(event["output_index"]) or self._open("reasoning", event)
        if item.kind != "reasoning":
            return NONE
        item.said = True
        return (ReasoningDelta(item.index, event["delta"]),)

    def _summary_part(self, event: JsonObject) -> Sequence[StepEvent]:
        item = self._items.get(event["output_index"])
        if item is None or item.kind != "reasoning" or not item.said:
            return NONE
        return (ReasoningDelta(item.index, "\n\n"),)  # summaries are paragraphs of one item

    def _arguments(self, event: JsonObject) -> Sequence[StepEvent]:
        item = self._items.get(event["output_index"])
        if item is None or item.kind != "call":
            return NONE
        item.said = True
        return (ToolArgumentsDelta(item.index, event["delta"]),)

    def _added(self, event: JsonObject) -> Sequence[StepEvent]:
        data: JsonObject = event["item"]
        kind = _kind(data)
        if kind is None:
            return NONE
        item = self._open(kind, event)
        if kind == "text":
            return NONE
        if kind == "reasoning":
            # Opened at once: it may be encrypted, and then nothing more is streamed.
            self._thought = True
            return (ReasoningDelta(item.index, ""),)
        if kind in ("call", "computer"):
            self._has_calls = True
            item.call_id = self._ids.take(data.get("call_id") or data.get("id"))
            item.tool = TOOL if kind == "computer" else data.get("name") or ""
            return (ToolCallStarted(item.index, item.call_id, item.tool),)
        item.call_id = self._ids.take(data.get("id"))
        item.tool = str(data["type"]).removesuffix("_call")
        return (ToolCallStarted(item.index, item.call_id, item.tool, provider_executed=True),)

    def _done(self, event: JsonObject) -> Sequence[StepEvent]:
        data: JsonObject = event["item"]
        out: list[StepEvent] = []
        if event["output_index"] not in self._items:
            out.extend(self._added(event))
        item = self._items.get(event["output_index"])
        if item is None:
            return self._opaque(data)
        if not item.said:  # some servers stream no deltas
            out.extend(_whole(item, data))
        if item.kind == "text":
            self._has_text = self._has_text or any(
                isinstance(event, TextDelta) and says_something(event.text) for event in out
            )
            self._refused = self._refused or _has_refusal(data)
        elif item.kind in ("call", "computer") and data.get("status") == "incomplete":
            return out  # stays open, so that nobody runs it
        self._last = PartClosed(item.index, self._metadata(item, data))
        out.append(self._last)
        if item.kind == "hosted":
            self._hosted_result(item, data, out)
        self._add_sources(item.sources, out)
        return out

    def _opaque(self, data: JsonObject) -> Sequence[StepEvent]:
        """An item of a kind that we do not know: kept for its own provider, shown to nobody.

        What follows it goes back as it came as well: it may need it, as reasoning does.
        """
        self._thought = True
        index = self._next
        self._next += 1
        return (ReasoningDelta(index, ""), PartClosed(index, self._origin.keep(data)))

    def _metadata(self, item: _Item, data: JsonObject) -> ProviderMetadata | None:
        """The item, where it says more than its neutral fields.

        Items after reasoning go back with the ids that tie them to it.
        """
        trivial = not self._thought and (
            (item.kind == "call" and not _CALL_EXTRAS.intersection(data))
            or (item.kind == "text" and not data.get("phase") and not _has_extras(data))
        )
        return None if trivial else self._origin.keep(data)

    def _hosted_result(self, item: _Item, data: JsonObject, out: list[StepEvent]) -> None:
        sources: list[JsonObject] = _action(data).get("sources") or []
        found = [{"url": source["url"]} for source in sources if source.get("url")]
        result = ToolResultPart(
            item.call_id,
            item.tool,
            (JsonPart(found),) if found else (),
            is_error=data.get("status") == "failed",
            provider_executed=True,
        )
        out.append(PartAdded(self._next, result))
        self._next += 1
        self._add_sources(sources, out)

    def _annotation(self, event: JsonObject) -> Sequence[StepEvent]:
        item = self._items.get(event["output_index"])
        if item is not None:
            item.sources.append(event["annotation"])
        return NONE

    def _add_sources(self, sources: Sequence[JsonObject], out: list[StepEvent]) -> None:
        for source in sources:
            url = source.get("url")
            if url and url not in self._cited:
                self._cited.add(url)
                out.append(PartAdded(self._next, SourcePart(url, source.get("title") or "")))
                self._next += 1

    def _ended(self, event: JsonObject) -> Sequence[StepEvent]:
        self._response = event["response"]
        self.response_id = self._response.get("id") or self.response_id
        self.finished = self.complete = True
        return NONE

    def _failed(self, event: JsonObject) -> Sequence[StepEvent]:
        self._response = event["response"]  # what it has used is paid for
        error: JsonObject = self._response.get("error") or _NO_OBJECT
        raise StreamFault(error.get("code") or "server_error", error.get("message") or "")

    def _error(self, event: JsonObject) -> Sequence[StepEvent]:
        error: JsonObject = event.get("error") or event
        code = error.get("code") or error.get("type")
        raise StreamFault(
            code if code and code != "error" else "server_error", error.get("message") or ""
        )

    def end(self) -> Sequence[StepEvent]:
        if not self.finished:
            raise StreamFault("truncated", "the stream ended without a terminal event")
        response = self._response
        stop: StopReason = "tool-calls" if self._has_calls else "end"
        if response.get("status") == "incomplete":
            reason = (response.get("incomplete_details") or _NO_OBJECT).get("reason")
            stop = _INCOMPLETE.get(reason or "", "unknown")
        elif self._refused:
            stop = "refusal"
        answered(stop, has_text=self._has_text, has_calls=self._has_calls)
        response_id: str = response.get("id") or ""  # what a later request can build on
        ended = StepEnded(stop, self.used(), self.response_id)
        if not (self._prefix and response_id and self._last and stop in ("end", "tool-calls")):
            return (ended,)
        # Said once more of the last part: the whole message is this response.
        kept = self._last.provider_metadata
        native = kept.native if kept is not None else None
        metadata = self._origin.keep(native, response_id=response_id, prefix=self._prefix)
        return (PartClosed(self._last.index, metadata), ended)

    def used(self) -> Usage | None:
        return _usage(self._response.get("usage"))


_CALL_EXTRAS: Final = frozenset({"namespace", "caller", "async"})


def _whole(item: _Item, data: JsonObject) -> Iterator[StepEvent]:
    """The whole item as one delta."""
    match item.kind:
        case "text":
            contents = data.get("content") or ()
            if text := "".join(c.get("text") or c.get("refusal") or "" for c in contents):
                yield TextDelta(item.index, text)
        case "reasoning":
            paragraphs = data.get("summary") or data.get("content") or ()
            if text := "\n\n".join(p.get("text") or "" for p in paragraphs):
                yield ReasoningDelta(item.index, text)
        case "call":
            if arguments := data.get("arguments"):
                yield ToolArgumentsDelta(item.index, arguments)
        case "computer":  # its actions come whole
            yield ToolArgumentsDelta(item.index, msgspec.json.encode(of_openai(data)).decode())
        case "hosted":
            action = {key: value for key, value in _action(data).items() if key != "sources"}
            yield ToolArgumentsDelta(item.index, msgspec.json.encode(action).decode())


def _has_refusal(data: JsonObject) -> bool:
    return any(content.get("type") == "refusal" for content in data.get("content") or ())


def _kind(data: JsonObject) -> Kind | None:
    name: str = data.get("type") or ""
    return _KINDS.get(name) or ("hosted" if name.endswith("_call") else None)


def _action(data: JsonObject) -> JsonObject:
    action: Any = data.get("action")
    return action if isinstance(action, dict) else _NO_OBJECT  # pyright: ignore[reportUnknownVariableType]  # JSON keys are strings


def _has_extras(data: JsonObject) -> bool:
    return any(
        content.get("annotations") or content.get("type") != "output_text"
        for content in data.get("content") or ()
    )


def _usage(usage: JsonObject | None) -> Usage | None:
    if usage is None:
        return None
    cached = usage.get("input_tokens_details") or _NO_OBJECT
    reasoning = usage.get("output_tokens_details") or _NO_OBJECT
    return Usage(
        input_tokens=number(usage, "input_tokens"),
        output_tokens=number(usage, "output_tokens"),
        reasoning_tokens=number(reasoning, "reasoning_tokens"),
        cache_read_tokens=number(cached, "cached_tokens"),
        cache_write_tokens=number(cached, "cache_write_tokens"),
    )
