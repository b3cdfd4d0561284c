"""One attempt at a model call: what has arrived so far."""

from __future__ import annotations

from typing import Final

from steersman_chatloop.episode import Episode
from steersman_chatloop.providers.base import (
    ProviderFailed,
    StepEnded,
    StepEvent,
    StepNamed,
    name_of,
)
from steersman_contracts.chats import ChatError, Usage
from steersman_contracts.deltas import PartsBuilder
from steersman_contracts.ids import ModelName
from steersman_contracts.rpc.attempts import CountAttempt, Purpose
from steersman_contracts.rpc.worker import OwnedChat

MOST: Final = 16 * 2**20
"""Characters and events of one attempt, together: far beyond what any model says, or can be
stored. A server that never comes to an end would fill the memory that other chats share."""
_ENDLESS: Final = ChatError("generic", "The answer of the model was too long, and was cut off.")
_GARBLED: Final = ChatError("generic", "The answer of the model cannot be used: its parts clash.")


class Attempt:
    """Filled while the model streams; whatever ends the stream finds here what came before."""

    def __init__(self) -> None:
        self.builder = PartsBuilder()
        self.episode: Episode | None = None
        self.number = 0
        self.response_id: str | None = None
        """What the provider calls the answer, if it has said so by now."""
        self.ended: StepEnded | None = None
        self.failed: ProviderFailed | None = None
        self.counted = False
        """What it has used is booked: no message says so once more."""
        self._left = MOST

    def take(self, event: StepEvent) -> None:
        """Take in what has arrived.

        Raises:
            ProviderFailed: There is no end to it, or it contradicts what came before.
        """
        if isinstance(event, StepNamed | StepEnded):
            self.response_id = name_of(event.response_id) or self.response_id
            if isinstance(event, StepEnded):
                self.ended = event
            return
        try:
            self.builder.apply(event)
        except ValueError as error:
            raise ProviderFailed(_GARBLED) from error
        self._left -= 1 + len(getattr(event, "text", ""))
        if self._left < 0:
            raise ProviderFailed(_ENDLESS)

    @property
    def usage(self) -> Usage | None:
        """What the provider has counted, also of an answer that was of no use."""
        if self.ended is not None:
            return self.ended.usage
        return None if self.failed is None else self.failed.usage

    def to_count(self, chat: OwnedChat, purpose: Purpose, model: ModelName) -> CountAttempt | None:
        """What is to be booked of it, as nothing will be stored that says so; once at most.

        Whoever has said something is paid for it, also if nobody has said how much.

        Args:
            chat: As it was when the attempt was made.
            purpose: What it was for.
            model: Who was asked.
        """
        usage = self.usage
        if self.counted or (usage is None and not self.builder.parts()):
            return None
        self.counted = True
        return CountAttempt(chat.chat_id, chat.history_version, self.number, purpose, model, usage)

    async def flush(self) -> None:
        """Wait until the event log has all deltas of the attempt, or never will."""
        if self.episode is not None:
            await self.episode.flush()
