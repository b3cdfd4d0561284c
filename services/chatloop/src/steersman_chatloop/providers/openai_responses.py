"""The Responses API of OpenAI, and of servers that speak it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from steersman_chatloop.providers import openai_sdk, tuning
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.openai_responses_events import Translator
from steersman_chatloop.providers.openai_responses_request import FORMAT, to_request, unsent
from steersman_chatloop.providers.streaming import Limits, run


class OpenAIResponses:
    """The provider for this wire format."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients = openai_sdk.pool()

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        tuning.unsent(request.model, unsent(request.model))
        access = request.model
        translator = Translator(Origin(FORMAT, access), CallIds.of(request))
        events = openai_sdk.events(self._clients, access, "/responses", to_request(request))
        return run(events, translator, access, self._limits)

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()
