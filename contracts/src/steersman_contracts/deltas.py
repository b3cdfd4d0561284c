"""What streams while a model answers, and the one fold that turns it into parts.

A delta names the part it belongs to by its index in the assistant message of the step. The preview
that a client builds, the parts that the loop commits and the partial step that is saved after an
interrupt all come from `PartsBuilder`, so they cannot differ.
"""

from __future__ import annotations

from typing import Any, TypeAlias, assert_never

import msgspec

from steersman_contracts.chats import Preview
from steersman_contracts.parts import (
    FilePart,
    JsonObject,
    Part,
    Parts,
    ProviderMetadata,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.surrogates import paired


class TextDelta(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """More text of a text part; the first one opens the part."""

    index: int
    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """More text of a reasoning part; the first one opens the part. May be empty."""

    index: int
    text: str


class ToolCallStarted(
    msgspec.Struct, frozen=True, tag_field="type", tag="tool-call", omit_defaults=True
):
    """A tool call opens; its arguments follow as text."""

    index: int
    call_id: str
    tool: str
    provider_executed: bool = False


class ToolArgumentsDelta(msgspec.Struct, frozen=True, tag_field="type", tag="tool-arguments"):
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


class PartAdded(msgspec.Struct, frozen=True, tag_field="type", tag="part"):
    """A part that arrives whole: a source, a file, the result of a provider-executed call."""

    index: int
    part: SourcePart | FilePart | ToolResultPart


Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallStarted | ToolArgumentsDelta | PartAdded


class PartClosed(msgspec.Struct, frozen=True):
    """The part is whole. Never on the wire: it carries what only the provider may see again."""

    index: int
    provider_metadata: ProviderMetadata | None = None


def join_deltas(pending: list[Delta], delta: Delta) -> None:
    """Append `delta`, merged into the last one where both continue the same part."""
    if pending:
        last = pending[-1]
        match last, delta:
            case (
                (TextDelta(), TextDelta())
                | (ReasoningDelta(), ReasoningDelta())
                | (ToolArgumentsDelta(), ToolArgumentsDelta())
            ) if last.index == delta.index:
                pending[-1] = type(delta)(delta.index, last.text + delta.text)
                return
            case _:
                pass
    pending.append(delta)


class _OpenText:
    """Text that is still arriving; joined once, when somebody looks."""

    __slots__ = ("chunks", "closed", "kind", "metadata")

    def __init__(self, kind: type[TextPart] | type[ReasoningPart]) -> None:
        self.kind = kind
        self.chunks: list[str] = []
        self.metadata: ProviderMetadata | None = None
        self.closed = False

    def part(self) -> Part:
        return self.kind("".join(self.chunks), self.metadata)


class _OpenCall:
    __slots__ = ("chunks", "closed", "metadata", "started")

    def __init__(self, started: ToolCallStarted) -> None:
        self.started = started
        self.chunks: list[str] = []
        self.metadata: ProviderMetadata | None = None
        self.closed = False

    def part(self) -> ToolCallPart:
        text = "".join(self.chunks)
        arguments, invalid = parse_arguments(text)
        return ToolCallPart(
            call_id=self.started.call_id,
            tool=self.started.tool,
            arguments=arguments,
            provider_executed=self.started.provider_executed,
            invalid=invalid,
            provider_metadata=self.metadata,
        )


def parse_arguments(text: str) -> tuple[JsonObject, str | None]:
    """Parse the JSON text of a call's arguments.

    Returns:
        The object and None; or an empty object and `text` itself when it is not a JSON object.
        No text at all is the empty object: providers send none for a call without arguments.
        Half of a surrogate pair shows as U+FFFD: it could be neither stored nor sent.
    """
    if not text.strip():
        return {}, None
    try:
        value: Any = msgspec.json.decode(paired(text))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}, text
    if not isinstance(value, dict):
        return {}, text
    return value, None  # pyright: ignore[reportUnknownVariableType]  # JSON keys are strings


class PartsBuilder:
    """Folds the deltas of one episode into the parts of the assistant message."""

    def __init__(self) -> None:
        self._open: dict[int, _OpenText | _OpenCall | Part] = {}

    def apply(self, delta: Delta | PartClosed) -> None:
        """Take in one delta.

        Raises:
            ValueError: The delta continues a part that is of another kind or was never opened.
        """
        match delta:
            case TextDelta():
                self._text(delta.index, TextPart).chunks.append(delta.text)
            case ReasoningDelta():
                self._text(delta.index, ReasoningPart).chunks.append(delta.text)
            case ToolCallStarted():
                if delta.index in self._open:
                    raise ValueError(f"part {delta.index!r} is open already")
                self._open[delta.index] = _OpenCall(delta)
            case ToolArgumentsDelta():
                call = self._open.get(delta.index)
                if not isinstance(call, _OpenCall):
                    raise ValueError(f"part {delta.index!r} is not a tool call")  # noqa: TRY004  # a bad stream, not a bad type
                call.chunks.append(delta.text)
            case PartAdded():
                self._open[delta.index] = delta.part
            case PartClosed():
                self._close(delta)
            case _:
                assert_never(delta)

    def _text(self, index: int, kind: type[TextPart] | type[ReasoningPart]) -> _OpenText:
        found = self._open.get(index)
        if found is None:
            found = self._open[index] = _OpenText(kind)
        elif not isinstance(found, _OpenText) or found.kind is not kind:
            raise ValueError(f"part {index!r} is not {kind.__name__}")
        return found

    def _close(self, closed: PartClosed) -> None:
        found = self._open.get(closed.index)
        if isinstance(found, _OpenText | _OpenCall):
            found.closed = True
            found.metadata = closed.provider_metadata
        elif found is not None and closed.provider_metadata is not None:
            self._open[closed.index] = msgspec.structs.replace(
                found, provider_metadata=closed.provider_metadata
            )

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def next_index(self) -> int:
        """The index that a new part would have."""
        return max(self._open, default=-1) + 1

    def parts(self) -> Parts:
        """All parts so far, in order. Text without any character and metadata is left out."""
        return tuple(part for _, part in self.indexed())

    def indexed(self) -> list[tuple[int, Part]]:
        """As `parts`, each with its index in the episode."""
        built = (
            (index, item.part() if isinstance(item, _OpenText | _OpenCall) else item)
            for index, item in sorted(self._open.items())
        )
        return [(index, part) for index, part in built if not _is_empty(part)]

    def preview(
        self, *, history_version: int, attempt: int, seq: int, response_id: str | None = None
    ) -> Preview:
        """What the episode shows so far, with what a reader needs to go on from it."""
        indexed = self.indexed()
        return Preview(
            history_version,
            attempt,
            seq,
            tuple(part for _, part in indexed),
            tuple(index for index, _ in indexed),
            response_id,
        )

    def unclosed_calls(self) -> frozenset[str]:
        """The ids of calls whose arguments had not ended: they must never be run."""
        return frozenset(
            item.started.call_id
            for item in self._open.values()
            if isinstance(item, _OpenCall) and not item.closed
        )


def _is_empty(part: Part) -> bool:
    return (
        isinstance(part, TextPart | ReasoningPart)
        and not part.text
        and part.provider_metadata is None
    )
