"""Chat Completions: OpenAI and every compatible server, told apart by the base URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from steersman_chatloop.providers import openai_sdk, tuning, unreadable
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.openai_chat_events import Translator
from steersman_chatloop.providers.openai_chat_request import FORMAT, Dialect, to_request, unsent
from steersman_chatloop.providers.streaming import Limits, run


class OpenAIChat:
    """The provider for this wire format."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients = openai_sdk.pool()

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        tuning.unsent(request.model, unsent(request.model))
        translator = Translator(
            Origin(FORMAT, request.model),
            CallIds.of(request),
            keep_reasoning=Dialect.of(request.model).wants_reasoning,
        )
        events = unreadable.answers(
            request,
            to_request(request),
            to_request,
            lambda body: openai_sdk.events(self._clients, request.model, "/chat/completions", body),
        )
        return run(events, translator, request.model, self._limits)

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()
