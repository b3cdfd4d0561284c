"""Which model answers: the chat's own, or one of its fallbacks once it goes on failing."""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_contracts.chats import ChatError, ErrorKind
from steersman_contracts.ids import ModelName
from steersman_contracts.rpc.worker import ModelAccess

_OF_THE_CONVERSATION: Final[frozenset[ErrorKind]] = frozenset(
    {"context_overflow", "content_filter"}
)
"""Another model would be asked the same, and is not the cure."""


class Answering:
    """The model of one turn. A fallback that took over answers until the turn ends."""

    def __init__(self, own: ModelAccess) -> None:
        self.own: ModelAccess = own
        self.model: ModelAccess = own
        self._left = list(own.settings.fallbacks)
        self._patience = own.settings.fallback_after
        self._failures = 0

    def after(self, error: ChatError) -> ModelName | None:
        """Take note of a failed attempt.

        Returns:
            The model to try instead, if it is time for another one: at once after a failure that
            no repetition mends, otherwise after as many as the chat's own model allows.
        """
        self._failures += 1
        if error.kind in _OF_THE_CONVERSATION or not self._left:
            return None
        if error.retryable and self._failures < self._patience:
            return None
        return self._left.pop(0)

    def is_for(self, own: ModelAccess) -> bool:
        """Whether the chat's own model is still this one; that it has answered makes no other."""
        return self.own == msgspec.structs.replace(own, reached=self.own.reached)

    def refresh(self, model: ModelAccess) -> None:
        """How the model that answers is reached now: an admin may have mended what failed."""
        # Which the chat's row tells, and not that of the model.
        model = msgspec.structs.replace(model, summary_limit=self.model.summary_limit)
        if self.model is self.own:
            self.own = model
        self.model = model

    def switch(self, model: ModelAccess) -> None:
        """Another model answers from here on."""
        self.model = model
        self._failures = 0
