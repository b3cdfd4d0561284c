"""Google Gemini by generateContent, at the Gemini API and on Vertex.

Spoken directly: the SDK drops whatever its types do not know, which may be what has to go back,
writes signatures in another alphabet, breaks on the comments and event names that proxies add to
streams, and does not close the request of a stream that is left early.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec

from steersman_chatloop.providers import direct, sse, transport, tuning, unreadable
from steersman_chatloop.providers.addresses import brings_its_own_key, google_url
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.clients import NO_KEY, ClientPool, tls
from steersman_chatloop.providers.google_events import Translator
from steersman_chatloop.providers.google_request import (
    FORMAT,
    computer_environment,
    searches,
    to_request,
    unsent,
)
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import ReportedFault
from steersman_chatloop.providers.streaming import Limits, run
from steersman_contracts.computer_history import screen_size
from steersman_contracts.computer_use import TOOL
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess

if TYPE_CHECKING:  # it needs google-auth
    from steersman_chatloop.providers.google_login import Tokens

MAX_PIECES: Final = 20
"""Requests for one answer, when each ends with a token to go on."""


class Google:
    """The provider for this wire format."""

    def __init__(self, limits: Limits, tokens: Tokens | None = None) -> None:
        self._limits = limits
        self._tokens = tokens  # None: keys alone, without what tokens need
        self._clients = ClientPool(_build, _close)

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        tuning.unsent(request.model, unsent(request.model))
        shown = None if computer_environment(request) is None else screen_size(request.messages)
        origin = Origin(FORMAT, request.model)
        names = {tool.name for tool in request.tools if tool.name != TOOL}
        translator = Translator(
            origin,
            CallIds.of(request),
            screen=shown,
            functions=names,
            searches=searches(request.model, has_tools=bool(request.tools)),
        )
        events = unreadable.answers(
            request,
            to_request(request),
            to_request,
            lambda body: self._answer(request.model, body, translator),
        )
        return run(events, translator, request.model, self._limits)

    async def _answer(
        self, access: ModelAccess, body: JsonObject, translator: Translator
    ) -> AsyncGenerator[list[JsonObject]]:
        """One answer, which Google may give in several pieces."""
        for _ in range(MAX_PIECES):
            async with aclosing(self._events(access, body)) as batches:
                async for batch in batches:
                    yield batch
            token = translator.continued()
            if token is None:
                return
            body = body | {"continuationToken": token}

    async def _events(
        self, access: ModelAccess, body: JsonObject
    ) -> AsyncGenerator[list[JsonObject]]:
        content = msgspec.json.encode(body)
        headers = _headers(access) if self._tokens is None else await self._cloud_headers(access)
        try:
            async with (
                self._clients.lease(access) as client,
                direct.opened(client, google_url(access), content, headers) as response,
                aclosing(sse.events(response)) as batches,
            ):
                async for batch in batches:
                    yield batch
        except ReportedFault as fault:
            if self._tokens is not None and fault.status_code == 401:
                self._tokens.forget(access)
            raise

    async def _cloud_headers(self, access: ModelAccess) -> dict[str, str]:
        assert self._tokens is not None  # the caller has looked
        proof = await self._tokens.proof(access)
        given = {name.lower(): value for name, value in access.headers.items()}
        return {"content-type": "application/json"} | proof | given

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()


def _build(_: ModelAccess) -> httpx2.AsyncClient:
    return transport.client(tls())


async def _close(client: httpx2.AsyncClient) -> None:
    await client.aclose()


def _headers(access: ModelAccess) -> dict[str, str]:
    own = {"content-type": "application/json"}
    if not brings_its_own_key(access.headers):
        key = access.api_key or NO_KEY
        # Vertex takes access tokens of OAuth as well, which tell themselves by their beginning.
        if key.startswith("ya29."):
            own["authorization"] = f"Bearer {key}"
        else:
            own["x-goog-api-key"] = key
    return own | {name.lower(): value for name, value in access.headers.items()}
