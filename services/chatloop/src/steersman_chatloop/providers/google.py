"""Google Gemini by generateContent.

The request goes in as it stands on the wire (`extra_body`): the SDK's own types would copy and
check the whole history, drop what they do not know and write signatures in another alphabet.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple, cast

import httpx2
from google import genai
from google.genai import types

from steersman_chatloop.providers import google_http
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.clients import NO_KEY, ClientPool, tls
from steersman_chatloop.providers.google_events import Chunk, Translator
from steersman_chatloop.providers.google_request import FORMAT, to_request
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.streaming import Limits, run
from steersman_contracts.rpc.worker import ModelAccess

GOOGLE_URL: Final = "https://generativelanguage.googleapis.com"


class _Client(NamedTuple):
    api: genai.Client
    http: httpx2.AsyncClient


class Google:
    """The provider for this wire format."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients = ClientPool(_build, _close)

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        translator = Translator(Origin(FORMAT, request.model), CallIds.of(request))
        return run(self._events(request), translator, request.model, self._limits)

    async def _events(self, request: StepRequest) -> AsyncGenerator[Chunk]:
        # A dictionary, because the SDK makes a deep copy of a config object, and of the body in it.
        config = {
            "http_options": types.HttpOptions(extra_body=to_request(request)),
            # The SDK must neither run tools nor send requests of its own.
            "automatic_function_calling": {"disable": True},
            "automatic_continuation": False,
        }
        async with self._clients.lease(request.model) as client:
            stream = await client.api.aio.models.generate_content_stream(
                model=request.model.model_id,
                contents="-",  # replaced by those of the body
                config=cast("types.GenerateContentConfigDict", config),
            )
            # It is a generator, under a wider type.
            chunks = google_http.closing(cast("AsyncGenerator[Chunk]", stream))
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()


def _build(access: ModelAccess) -> _Client:
    http = google_http.client()
    options = types.HttpOptions(
        # The SDK appends the version itself; people copy URLs that have it already.
        base_url=(access.base_url or GOOGLE_URL).rstrip("/").removesuffix("/v1beta"),
        api_version="v1beta",
        retry_options=types.HttpRetryOptions(attempts=1),
        httpx_async_client=http,
        # For its other clients, which nobody uses, but which it makes.
        client_args={"verify": tls()},
        async_client_args={"verify": tls(), "ssl": tls()},
    )
    api = genai.Client(vertexai=False, api_key=access.api_key or NO_KEY, http_options=options)
    return _Client(api, http)


async def _close(client: _Client) -> None:
    await client.api.aio.aclose()
    client.api.close()
    await client.http.aclose()
