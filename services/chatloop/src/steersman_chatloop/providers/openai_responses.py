"""The Responses API of OpenAI, and of servers that speak it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from steersman_chatloop.providers import openai_sdk
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.openai_responses_events import Translator
from steersman_chatloop.providers.openai_responses_request import FORMAT, to_request
from steersman_chatloop.providers.streaming import Limits, run


class OpenAIResponses:
    """The provider for this wire format."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients = openai_sdk.pool()

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        translator = Translator(Origin(FORMAT, request.model), CallIds.of(request))
        events = openai_sdk.events(self._clients, request, "/responses", to_request)
        return run(events, translator, request.model, self._limits)

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()
