"""One attempt at a model call: what has arrived so far."""

from __future__ import annotations

from steersman_chatloop.episode import Episode
from steersman_chatloop.providers.base import ProviderFailed, StepEnded
from steersman_contracts.deltas import PartsBuilder


class Attempt:
    """Filled while the model streams; whatever ends the stream finds here what came before."""

    def __init__(self) -> None:
        self.builder = PartsBuilder()
        self.episode: Episode | None = None
        self.number = 0
        self.ended: StepEnded | None = None
        self.failed: ProviderFailed | None = None

    async def flush(self) -> None:
        """Wait until the event log has all deltas of the attempt, or never will."""
        if self.episode is not None:
            await self.episode.flush()
