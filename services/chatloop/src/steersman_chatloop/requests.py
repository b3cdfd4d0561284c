"""What a step asks the model: the tools that a turn offers, the system prompt, the messages."""

from __future__ import annotations

from collections.abc import Sequence

from steersman_chatloop.attachments import with_bytes
from steersman_chatloop.claim import Claim
from steersman_chatloop.instructions import system_text
from steersman_chatloop.offers import Offer, gather
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.chats import Message
from steersman_contracts.computer_history import without_old_screenshots
from steersman_contracts.rpc.worker import ModelAccess


class Requests:
    """The requests of one claim on a chat. Tools stay the same within a turn."""

    def __init__(self, around: Surroundings, claim: Claim) -> None:
        self._around = around
        self._claim = claim
        self._offer: Offer | None = None
        self._offer_of: tuple[int, bool] | None = None
        """The turn that `_offer` is for, and whether it may look only."""

    async def step(self, model: ModelAccess, messages: Sequence[Message]) -> StepRequest:
        """The request for the next step.

        Args:
            model: Who is asked.
            messages: What of the history the model may see.
        """
        chat = self._claim.chat
        wanted = (self._claim.turns_ended, chat.terms.looks_only)
        if self._offer is None or self._offer_of != wanted:
            self._offer, self._offer_of = await gather(self._around, chat), wanted
        offer = self._offer if model.tools else Offer()
        return StepRequest(
            chat_id=chat.chat_id,
            model=model,
            system=system_text(offer.prompt(chat)),
            messages=await self._filled(messages),
            tools=offer.tools,
            effort=chat.effort,
            response_schema=chat.terms.response_schema,
            beginning=self._claim.history.preparation.beginning,
        )

    async def _filled(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages as a provider gets them, with the bytes of their files."""
        fetch = self._around.files.of(self._claim.chat.chat_id, self._around.runner_id)
        prepared, plain = self._claim.history.preparation.prepare(messages)
        newest = without_old_screenshots(prepared[plain:])
        return (*prepared[:plain], *await with_bytes(newest, fetch))
