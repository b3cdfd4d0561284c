"""What a fake model says, as data: the same script renders to every wire format.

A `Script` is a list of turns; a `Turn` is what one request streams back. Which turn a request gets
follows from its own history alone, so that retries and any number of concurrent conversations are
harmless: see `Script.pick`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["anthropic", "responses", "chat", "gemini", "bedrock", "vertex"]

StopReason: TypeAlias = Literal[
    "end",
    "tool_calls",
    "max_tokens",
    "stop_sequence",
    "pause",
    "refusal",
    "content_filter",
    "context_window",
    "malformed_call",
    "continuation",
]


class Citation(msgspec.Struct, frozen=True):
    """A source of the text it sits on; it covers the whole text."""

    url: str
    title: str
    quote: str = ""


class SearchResult(msgspec.Struct, frozen=True):
    url: str
    title: str
    encrypted_content: str | None = None
    page_age: str | None = None


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str
    citations: Sequence[Citation] = ()
    # Gemini alone signs text; every other format ignores it.
    signature: str | None = None


class Reasoning(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """Thinking. Without a signature the fake makes one that it can verify later."""

    text: str = ""
    signature: str | None = None
    redacted: bool = False


class ToolCall(msgspec.Struct, frozen=True, tag_field="type", tag="tool-call"):
    """A call of a client-side tool.

    `raw` replaces the JSON text of the arguments, for calls that do not parse (Gemini, whose
    arguments are an object on the wire, ignores it). `id` is made up when it is None; Gemini then
    sends none unless the model is of the third generation.
    """

    name: str
    arguments: dict[str, object] = {}
    id: str | None = None
    raw: str | None = None
    # A member of one of Anthropic's client toolsets; every other format ignores it.
    toolset: str | None = None


class ComputerCall(msgspec.Struct, frozen=True, tag_field="type", tag="computer-call"):
    """OpenAI's own form of a computer call: several actions, and what a person must accept first.

    Every other format ignores it.
    """

    actions: Sequence[dict[str, object]]
    checks: Sequence[dict[str, object]] = ()
    id: str | None = None


class ServerToolSearch(msgspec.Struct, frozen=True, tag_field="type", tag="web-search"):
    """A web search that the provider runs itself, with its results."""

    query: str
    results: Sequence[SearchResult] = ()
    # An error code instead of results, e.g. "max_uses_exceeded".
    error: str | None = None


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    text: str


class Usage(msgspec.Struct, frozen=True, tag_field="type", tag="usage"):
    """Totals: cache reads and writes are part of `input`, reasoning is part of `output`."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Stop(msgspec.Struct, frozen=True, tag_field="type", tag="stop"):
    """Why the turn ends. `raw` is sent as it is, whatever the format would say for `reason`."""

    reason: StopReason = "end"
    raw: str | None = None
    detail: str | None = None


class Pause(msgspec.Struct, frozen=True, tag_field="type", tag="pause"):
    """Silence before the next frame."""

    seconds: float


Item: TypeAlias = (
    Text | Reasoning | ToolCall | ComputerCall | ServerToolSearch | Refusal | Usage | Stop | Pause
)


class Turn(msgspec.Struct, frozen=True):
    """What one request streams back.

    Without `tokens_per_second` it comes at full speed. Without `chunk_chars` text is cut before
    each word and arguments every 12 characters; with it, both are cut every so many characters.
    `ends` says whether the model's answer to the user message is complete; None derives it: no tool
    call and no pause.
    """

    items: Sequence[Item]
    tokens_per_second: float | None = None
    chunk_chars: int | None = None
    ends: bool | None = None

    @property
    def stop(self) -> Stop:
        for item in self.items:
            if isinstance(item, Stop):
                return item
        if any(isinstance(item, Refusal) for item in self.items):
            return Stop("refusal")
        calls = any(isinstance(item, ToolCall | ComputerCall) for item in self.items)
        return Stop("tool_calls" if calls else "end")

    @property
    def is_last(self) -> bool:
        if self.ends is not None:
            return self.ends
        calls = any(isinstance(item, ToolCall | ComputerCall) for item in self.items)
        return not calls and self.stop.reason not in ("pause", "continuation")

    def usage(self, *, prompt_bytes: int) -> Usage:
        """The scripted usage, or an estimate: a token per four bytes in, a token per delta out."""
        for item in self.items:
            if isinstance(item, Usage):
                return item
        out = reasoning = 0
        for item in self.items:
            if isinstance(item, Text):
                out += len(self.pieces(item.text))
            elif isinstance(item, Reasoning):
                reasoning += len(self.pieces(item.text))
            elif isinstance(item, ToolCall):
                out += len(self.argument_pieces(item))
        return Usage(input=max(1, prompt_bytes // 4), output=out + reasoning, reasoning=reasoning)

    def pieces(self, text: str) -> Sequence[str]:
        return pieces(text, self.chunk_chars)

    def argument_pieces(self, call: ToolCall) -> Sequence[str]:
        return fixed_pieces(arguments_text(call), self.chunk_chars or 12)


class Script(msgspec.Struct, frozen=True):
    """Turns in the order in which one conversation takes them.

    The turns up to and with the first that ends the answer (`Turn.is_last`) belong to the first
    user message, the next ones to the second, and so on. A request gets the turn of its own
    position: how many user messages its history has, and how many assistant messages follow the
    last of them. Asking for more turns than there are is refused, unless `repeat` allows to reuse
    the last ones.
    """

    turns: Sequence[Turn]
    repeat: bool = False

    def pick(self, user_index: int, step_index: int) -> Turn | None:
        groups: list[list[Turn]] = [[]]
        for turn in self.turns:
            if groups[-1] and groups[-1][-1].is_last:
                groups.append([])
            groups[-1].append(turn)
        if self.repeat:
            group = groups[min(user_index, len(groups) - 1)]
            return group[min(step_index, len(group) - 1)] if group else None
        if user_index >= len(groups) or step_index >= len(groups[user_index]):
            return None
        return groups[user_index][step_index]


@dataclass(frozen=True, slots=True)
class ViewedCall:
    id: str | None
    name: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True)
class ViewedResult:
    id: str | None
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ViewedMessage:
    """One message of the request, in words that every format shares."""

    role: Literal["user", "assistant", "system"]
    text: str = ""
    reasoning: str = ""
    calls: tuple[ViewedCall, ...] = ()
    results: tuple[ViewedResult, ...] = ()
    # Images, files and everything else that is not text: their type on the wire.
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ViewedTool:
    name: str
    description: str
    schema: dict[str, object]
    # The type on the wire when the provider runs it, e.g. "web_search_20250305".
    hosted: str | None = None


class RequestView:
    """A request in neutral words. What costs time is computed when it is first asked for."""

    def __init__(
        self,
        *,
        kind: Kind,
        model: str,
        user_index: int,
        step_index: int,
        last_user_at: int,
        expand: Callable[[int], list[ViewedMessage]],
        system: Callable[[], str],
        tools: Callable[[], list[ViewedTool]],
    ) -> None:
        self.kind: Final[Kind] = kind
        self.model: Final = model
        # How many user messages came before the last one, and how many assistant steps follow it.
        self.user_index: Final = user_index
        self.step_index: Final = step_index
        self._last_user_at = last_user_at
        self._expand = expand
        self._system = system
        self._tools = tools

    @cached_property
    def system(self) -> str:
        return self._system()

    @cached_property
    def messages(self) -> list[ViewedMessage]:
        return self._expand(0)

    @cached_property
    def tools(self) -> list[ViewedTool]:
        return self._tools()

    @cached_property
    def current(self) -> list[ViewedMessage]:
        """The last user message and everything after it."""
        return self._expand(self._last_user_at)

    @property
    def last_user_text(self) -> str:
        return next((m.text for m in self.current if m.role == "user" and m.text), "")

    @property
    def results(self) -> list[ViewedResult]:
        """The tool results that answer the last assistant message."""
        found: list[ViewedResult] = []
        for message in reversed(self.current):
            if message.role == "assistant":
                break
            found[:0] = message.results
        return found


Answer: TypeAlias = Callable[[RequestView], Turn]


class Plan:
    """The frames of one response, ready to be written, and where they pause."""

    __slots__ = ("delays", "deltas", "frames")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        # Which frames carry a piece of output.
        self.deltas: list[int] = []
        # Seconds of silence before a frame.
        self.delays: dict[int, float] = {}

    def event(self, frame: bytes) -> None:
        self.frames.append(frame)

    def delta(self, frame: bytes) -> None:
        self.deltas.append(len(self.frames))
        self.frames.append(frame)

    def pause(self, seconds: float) -> None:
        at = len(self.frames)
        self.delays[at] = self.delays.get(at, 0.0) + seconds

    def pace(self, tokens_per_second: float | None) -> None:
        """Spread the deltas out. The first one comes at once."""
        if tokens_per_second:
            each = 1.0 / tokens_per_second
            for at in self.deltas[1:]:
                self.delays[at] = self.delays.get(at, 0.0) + each


_WORDS: Final = re.compile(r"\s*\S+(?:\s+\Z)?|\s+\Z")


@lru_cache(maxsize=256)
def pieces(text: str, chunk_chars: int | None) -> Sequence[str]:
    if chunk_chars is not None:
        return fixed_pieces(text, chunk_chars)
    return tuple(_WORDS.findall(text))


def fixed_pieces(text: str, size: int) -> Sequence[str]:
    return tuple(text[at : at + size] for at in range(0, len(text), size))


def arguments_text(call: ToolCall) -> str:
    if call.raw is not None:
        return call.raw
    return msgspec.json.encode(call.arguments).decode()


_TOKENS: Final = re.compile(r"tokens-(\d+)(?:-at-(\d+(?:\.\d+)?))?")


def builtin(model: str) -> Answer | None:
    """Models that need no script.

    `echo` says the last user text back. `tokens-N` says N words, `tokens-N-at-R` at R per second.
    `tool-NAME` calls the tool that the last user text names as JSON (`{"tool": …, "arguments": …}`,
    or a list of these; NAME when it is not JSON) and then says the results back.
    """
    if model == "echo":
        return _echo
    if match := _TOKENS.fullmatch(model):
        turn = _tokens(int(match[1]), float(match[2]) if match[2] else None)
        return lambda _: turn
    if model.startswith("tool-"):
        return _tool
    return None


def _echo(view: RequestView) -> Turn:
    return Turn([Text(view.last_user_text or "(nothing)")])


@lru_cache(maxsize=64)
def _tokens(count: int, rate: float | None) -> Turn:
    text = " ".join(f"w{number}" for number in range(1, count + 1))
    return Turn([Text(text)], tokens_per_second=rate)


def _tool(view: RequestView) -> Turn:
    if view.step_index:
        said = "\n".join(result.text for result in view.results)
        return Turn([Text(said or "(no result)")])
    wanted = _wanted(view.last_user_text)
    if not wanted:
        return Turn([ToolCall(view.model.removeprefix("tool-"))])
    return Turn([ToolCall(call.tool, call.arguments) for call in wanted])


class _Wanted(msgspec.Struct):
    tool: str
    arguments: dict[str, object] = {}


def _wanted(text: str) -> list[_Wanted]:
    try:
        listed = text if text.lstrip().startswith("[") else f"[{text}]"
        return msgspec.json.decode(listed, type=list[_Wanted])
    except msgspec.DecodeError:
        return []
