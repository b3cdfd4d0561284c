"""Where a feed stands in the log of its chat: plain decisions, without a clock or a connection."""

from __future__ import annotations

from enum import Enum, auto


class Heard(Enum):
    """What a live event means for a feed."""

    NEXT = auto()
    KNOWN = auto()
    """Read from the log already."""
    MISSING = auto()
    """Something between it and the last one has not arrived."""
    ODD = auto()
    """Cannot be in the log that we know: look at the log before anything else."""


class Order:
    """Where a feed stands. Decides by the two sequences that each live event carries."""

    __slots__ = ("last", "newest")

    def __init__(self) -> None:
        self.last: int | None = None
        """The newest event handed on; None until the log was asked where it ends."""
        self.newest = 0
        """The newest event heard live."""

    def begin(self, head: int) -> None:
        """The log ends at `head`, and everything heard from here on should be newer.

        Nearly: the last event may be heard after the answer that counts it. That looks odd, and
        looking at the log then finds nothing wrong.
        """
        self.last = head
        self.newest = max(self.newest, head)

    def hear(self, seq: int, previous: int) -> Heard:
        """Judge a live event; only `NEXT` moves `last`."""
        if seq <= self.newest:
            return Heard.ODD  # live events come once and in order, as long as the log is the same
        self.newest = seq
        if self.last is None or previous > self.last:
            return Heard.MISSING
        if seq <= self.last:
            return Heard.KNOWN
        if previous < self.last:
            return Heard.ODD  # expired meanwhile, or another log
        self.last = seq
        return Heard.NEXT

    @property
    def settled(self) -> bool:
        """Everything that was heard of has been handed on."""
        return self.last is not None and self.newest <= self.last
