"""The Responses API of OpenAI, and of servers that speak it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from openai import APIStatusError

from steersman_chatloop.providers import openai_sdk, tuning, unreadable
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.openai_responses_events import Translator
from steersman_chatloop.providers.openai_responses_request import (
    FORMAT,
    chained,
    digest,
    keeps_responses,
    to_request,
    unsent,
)
from steersman_chatloop.providers.streaming import Limits, run
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess

log = structlog.stdlib.get_logger()


class OpenAIResponses:
    """The provider for this wire format."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients = openai_sdk.pool()

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        tuning.unsent(request.model, unsent(request.model))
        access = request.model
        body = to_request(request)
        prefix = digest(body["input"]) if keeps_responses(access) else ""
        translator = Translator(Origin(FORMAT, access), CallIds.of(request), prefix=prefix)
        return run(self._answer(request, body), translator, access, self._limits)

    async def _answer(
        self, request: StepRequest, body: JsonObject
    ) -> AsyncGenerator[list[JsonObject]]:
        short = chained(request, body)
        if short is not None:
            try:
                async with aclosing(self._events(request.model, short)) as batches:
                    async for batch in batches:
                        yield batch
            except APIStatusError as error:  # before the first event, or not at all
                if not _is_forgotten(error):
                    raise
                log.info("response.forgotten", model=request.model.name)
            else:
                return
        whole = unreadable.answers(
            request, body, to_request, lambda body: self._events(request.model, body)
        )
        async with aclosing(whole) as batches:
            async for batch in batches:
                yield batch

    def _events(self, access: ModelAccess, body: JsonObject) -> AsyncGenerator[list[JsonObject]]:
        return openai_sdk.events(self._clients, access, "/responses", body)

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()


def _is_forgotten(error: APIStatusError) -> bool:
    """Whether the server does not have the response that the request builds on, or keeps none."""
    return (
        error.param == "previous_response_id"
        or error.code == "previous_response_not_found"
        or error.status_code == 404
    )
