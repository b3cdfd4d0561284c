"""The preview of one episode: deltas in, parts out."""

from __future__ import annotations

import msgspec

from steersman_contracts.chats import Preview
from steersman_contracts.deltas import (
    Delta,
    PartAdded,
    PartsBuilder,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from steersman_contracts.events import PartDelta
from steersman_contracts.parts import (
    FilePart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

Episode = tuple[int, int]
"""`history_version` and `attempt`: newer ones compare greater."""


class OpenPreview:
    """The newest episode that is known, and its parts as long as all deltas arrived.

    Attributes:
        lost: A delta is missing, so that nothing is shown.
    """

    def __init__(self) -> None:
        self._episode: Episode = (0, 0)
        self._builder: PartsBuilder | None = None
        self._seq = 0
        self.lost = False

    def value(self) -> Preview | None:
        """What has arrived; None when nothing has."""
        if self._builder is None or not self._seq:
            return None
        history_version, attempt = self._episode
        return self._builder.preview(
            history_version=history_version, attempt=attempt, seq=self._seq
        )

    def outdated(self, history_version: int) -> bool:
        """Whether the episode belongs to an older history than this."""
        return self._episode[0] < history_version

    def open(self, episode: Episode) -> bool:
        """Begin an episode; says whether it is a newer one than the present."""
        if episode <= self._episode:
            return False
        self._episode, self._seq, self._builder, self.lost = episode, 0, PartsBuilder(), False
        return True

    def end(self, episode: Episode) -> bool:
        """The parts of this episode, and of older ones, are no longer shown.

        Returns:
            False when a newer one has begun, which stays.
        """
        if episode < self._episode:
            return False
        self._episode = episode
        self.close()
        return True

    def close(self) -> None:
        """The parts of the present episode are no longer shown; more of it changes nothing."""
        self._builder, self.lost = None, False

    @classmethod
    def restored(cls, episode: Episode, preview: Preview | None) -> OpenPreview:
        """Begin where a snapshot stands."""
        opened = cls()
        opened._episode, opened._builder = episode, PartsBuilder()
        if preview is not None:
            opened._episode = (preview.history_version, preview.attempt)
            opened._seq, opened._builder = preview.seq, builder_of(preview)
        return opened

    def add(self, event: PartDelta) -> bool:
        """Take in deltas; says whether they changed what is shown."""
        episode = (event.history_version, event.attempt)
        self.open(episode)
        builder = self._builder
        if episode < self._episode or builder is None or event.seq <= self._seq:
            return False
        whole = event.seq == self._seq + 1
        try:
            for delta in event.deltas if whole else ():
                builder.apply(delta)
        except ValueError:  # it goes on with a part that is not there
            whole = False
        if not whole:
            self._builder, self.lost = None, True
        self._seq = event.seq
        return True


def builder_of(preview: Preview) -> PartsBuilder:
    """A builder that has these parts and goes on with them."""
    builder = PartsBuilder()
    indexes = preview.indexes or range(len(preview.parts))
    for index, part in zip(indexes, preview.parts, strict=True):
        for delta in _deltas(index, part):
            builder.apply(delta)
    return builder


def _deltas(index: int, part: Part) -> list[Delta]:
    match part:
        case TextPart():
            return [TextDelta(index, part.text)]
        case ReasoningPart():
            return [ReasoningDelta(index, part.text)]
        case ToolCallPart():
            started = ToolCallStarted(index, part.call_id, part.tool, part.provider_executed)
            return [started, ToolArgumentsDelta(index, _arguments(part))]
        case SourcePart() | FilePart() | ToolResultPart():
            return [PartAdded(index, part)]
        case _:  # never streamed
            return []


def _arguments(part: ToolCallPart) -> str:
    """The text that the arguments were parsed from; `invalid` is what has arrived of it so far."""
    if part.invalid is not None:
        return part.invalid
    return msgspec.json.encode(part.arguments).decode() if part.arguments else ""
