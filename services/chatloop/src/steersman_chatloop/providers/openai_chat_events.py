"""The chunks of Chat Completions as step events, with the oddities of compatible servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from steersman_chatloop.providers.base import StepEnded, StepEvent
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.openai_chat_calls import OpenCalls
from steersman_chatloop.providers.signals import ReportedFault, StreamFault
from steersman_chatloop.providers.streaming import NONE, answered, number, says_something
from steersman_contracts.chats import StopReason, Usage
from steersman_contracts.deltas import PartAdded, PartClosed, ReasoningDelta, TextDelta
from steersman_contracts.parts import JsonObject, ProviderMetadata, SourcePart

STOPS: Final[Mapping[str, StopReason]] = {
    "stop": "end",
    "eos": "end",
    "end_turn": "end",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "length": "max-tokens",
    "max_tokens": "max-tokens",
    "model_length": "max-tokens",
    "content_filter": "content-filter",
    "sensitive": "content-filter",
    "refusal": "refusal",
}
_FAULTS: Final = {
    "error": "server_error",
    "network_error": "network_error",
    "insufficient_system_resource": "insufficient_system_resource",
}


class Translator:
    """Folds the chunks of one completion."""

    def __init__(self, origin: Origin, ids: CallIds, *, keep_reasoning: bool = False) -> None:
        """Begin a completion; `keep_reasoning` for servers that want their reasoning back."""
        self.finished = False
        self.complete = False  # only the end of the body says so: usage may still follow
        self._origin = origin
        self._calls = OpenCalls(origin, ids, self._open)
        self._next = 0
        self._text_at: int | None = None
        self._reasoning_at: int | None = None
        self._keep_reasoning = keep_reasoning
        self._details: list[JsonObject] = []
        self._length = 0
        self._sources: dict[str, SourcePart] = {}
        self._answered = False
        self._refused = False
        self._stop = ""
        self._usage: JsonObject | None = None
        self.response_id = ""

    def feed(self, event: JsonObject, /) -> Sequence[StepEvent]:
        choices = event.get("choices")
        usage = event.get("usage") or (event.get("x_groq") or NO_OBJECT).get("usage")
        if usage:
            self._usage = usage  # a running total, or repeated: never added up
        if not self.response_id:
            self.response_id = event.get("id") or ""
        if not choices:
            if event.get("error"):
                raise ReportedFault(event)
            return NONE
        choice = choices[0]
        delta = choice.get("delta")
        out: Sequence[StepEvent] = self._delta(delta) if delta else NONE
        if (finish := choice.get("finish_reason")) is not None:
            if event.get("error"):  # OpenRouter's, beside an empty choice
                raise ReportedFault(event)
            self._finish(finish, choice)
        return out

    def _delta(self, delta: JsonObject) -> Sequence[StepEvent]:
        content = delta.get("content")
        if content and len(delta) == 1 and type(content) is str and self._text_at is not None:
            self._length += len(content)
            if not self._answered:
                self._answered = says_something(content)
            return (TextDelta(self._text_at, content),)  # the hot path
        out: list[StepEvent] = []
        self._reason(delta, out)
        if content:
            if isinstance(content, str):
                self._say(content, out)
            else:
                self._say_blocks(content, out)
        if refusal := delta.get("refusal"):
            self._refused = True
            self._say(refusal, out)
        for annotation in delta.get("annotations") or ():
            self._cite(annotation)
        if calls := delta.get("tool_calls"):
            self._close_text(out)
            self._close_reasoning(out)
            for call in calls:
                self._calls.feed(call, out)
        return out

    def _open(self) -> int:
        index = self._next
        self._next += 1
        return index

    def _say(self, text: str, out: list[StepEvent]) -> None:
        self._close_reasoning(out)
        if self._text_at is None:
            self._text_at = self._open()
        self._length += len(text)
        if not self._answered:
            self._answered = says_something(text)
        out.append(TextDelta(self._text_at, text))

    def _cite(self, annotation: JsonObject) -> None:
        """A page that the text cites: of a search of OpenAI's or OpenRouter's."""
        about: JsonObject = annotation.get("url_citation") or NO_OBJECT
        url = about.get("url")
        if not url:
            return
        start, end = about.get("start_index"), about.get("end_index")
        found = self._sources.get(url) or SourcePart(url, about.get("title") or "")
        if isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= self._length:
            cited = tuple(sorted({*found.cited, (start, end)}))
            found = SourcePart(url, found.title, cited=cited)
        self._sources[url] = found

    def _say_blocks(self, blocks: Sequence[Any], out: list[StepEvent]) -> None:
        """Mistral's form: a list of blocks, thinking among them."""
        for block in blocks:
            if block.get("type") == "thinking":
                for piece in block.get("thinking") or ():
                    self._think(piece.get("text") or "", out)
            elif text := block.get("text"):
                self._say(text, out)

    def _reason(self, delta: JsonObject, out: list[StepEvent]) -> None:
        text = delta.get("reasoning_content") or delta.get("reasoning")
        details = delta.get("reasoning_details")
        if details:
            if self._reasoning_at is None:
                self._think("", out)
            merge_details(self._details, details)
            text = text or "".join(d.get("text") or d.get("summary") or "" for d in details)
        if text and isinstance(text, str):
            self._think(text, out)

    def _think(self, text: str, out: list[StepEvent]) -> None:
        self._close_text(out)
        if self._reasoning_at is None:
            self._reasoning_at = self._open()
        out.append(ReasoningDelta(self._reasoning_at, text))

    def _close_text(self, out: list[StepEvent]) -> None:
        if self._text_at is not None:
            out.append(PartClosed(self._text_at))
            self._text_at = None
            out.extend(PartAdded(self._open(), source) for source in self._sources.values())
            self._sources = {}

    def _close_reasoning(self, out: list[StepEvent]) -> None:
        if self._reasoning_at is not None:
            out.append(PartClosed(self._reasoning_at, self._reasoning_metadata()))
            self._reasoning_at = None
            self._details = []

    def _reasoning_metadata(self) -> ProviderMetadata | None:
        """The details, which go back as they came, or a mark that the text goes back."""
        if self._details:
            return self._origin.keep({"reasoning_details": self._details})
        return self._origin.keep({}) if self._keep_reasoning else None

    def _finish(self, finish: str, choice: JsonObject) -> None:
        if finish in _FAULTS:
            error = choice.get("error") or NO_OBJECT
            raise StreamFault(_FAULTS[finish], str(error.get("message", "")))
        if finish.startswith("function_call_filter"):
            raise StreamFault("malformed_call", finish)
        self._stop = finish
        self.finished = True

    def end(self) -> Sequence[StepEvent]:
        if not self.finished:
            raise StreamFault("truncated", "the stream ended without a finish reason")
        out: list[StepEvent] = []
        self._close_text(out)
        self._close_reasoning(out)
        out.extend(PartAdded(self._open(), source) for source in self._sources.values())
        stop: StopReason = STOPS.get(self._stop, "unknown")
        if stop == "unknown" and not self._stop:
            stop = "end"  # in so many words
        # A call that was cut off stays open, so that nobody runs it: by a limit, or by a word that
        # we do not know, such as "abort".
        self._calls.close(out, cut=stop in ("max-tokens", "content-filter", "unknown"))
        if self._calls and stop == "end":
            stop = "tool-calls"  # some servers say "stop"
        elif stop == "tool-calls" and not self._calls:
            stop = "end"
        if self._refused and stop == "end":
            stop = "refusal"
        answered(stop, has_text=self._answered, has_calls=bool(self._calls))
        out.append(StepEnded(stop, self.used(), self.response_id))
        return out

    def used(self) -> Usage | None:
        return usage_of(self._usage)


NO_OBJECT: Final[JsonObject] = {}


def merge_details(merged: list[JsonObject], pieces: Sequence[JsonObject]) -> None:
    """Join the streamed pieces of reasoning details: same type and index, same block."""
    for piece in pieces:
        key = (piece.get("type"), piece.get("index"))
        last = next((d for d in merged if (d.get("type"), d.get("index")) == key), None)
        if last is None or (piece.get("id") and last.get("id") not in (None, piece["id"])):
            merged.append(dict(piece))
            continue
        for name, value in piece.items():
            if name in ("text", "summary", "data") and last.get(name) and value:
                last[name] += value
            elif value not in (None, ""):
                last[name] = value


def usage_of(usage: JsonObject | None) -> Usage | None:
    """Usage in our terms: reasoning is part of the output, whatever the server counts."""
    if usage is None:
        return None
    prompt = number(usage, "prompt_tokens")
    output = number(usage, "completion_tokens")
    details = usage.get("completion_tokens_details") or NO_OBJECT
    reasoning = number(details, "reasoning_tokens")
    # xAI, and Gemini behind a gateway, count reasoning beside the completion.
    beside = number(usage, "total_tokens") == prompt + output + reasoning
    if reasoning and (beside or reasoning > output):
        output += reasoning
    prompt_details = usage.get("prompt_tokens_details") or NO_OBJECT
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        reasoning_tokens=reasoning,
        cache_read_tokens=number(prompt_details, "cached_tokens")
        or number(usage, "prompt_cache_hit_tokens"),
        cache_write_tokens=number(prompt_details, "cache_write_tokens")
        or number(usage, "cache_creation_input_tokens"),
    )
