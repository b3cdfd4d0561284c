"""Chat Completions: OpenAI and every compatible server, told apart by the base URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from steersman_contracts.parts import JsonObject

from steersman_chatloop.providers import openai_sdk
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.openai_chat_events import Translator
from steersman_chatloop.providers.openai_chat_request import FORMAT, Dialect, to_request
from steersman_chatloop.providers.streaming import Limits, run


class OpenAIChat:
    """The provider for this wire format."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients = openai_sdk.pool()

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        translator = Translator(
            Origin(FORMAT, request.model),
            CallIds.of(request),
            keep_reasoning=Dialect.of(request.model).wants_reasoning,
        )
        return run(self._events(request), translator, request.model, self._limits)

    async def _events(self, request: StepRequest) -> AsyncGenerator[JsonObject]:
        body = to_request(request)
        events = openai_sdk.events(self._clients, request.model, "/chat/completions", body)
        async with aclosing(events):
            async for event in events:
                yield event

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()
