"""Anthropic's Messages API, and servers that speak it.

Requests go through `client.post` with plain objects, for the reasons given in `openai_sdk`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from anthropic import AsyncAnthropic, AsyncStream, DefaultAsyncHttpxClient

from steersman_chatloop.providers.anthropic_events import Translator
from steersman_chatloop.providers.anthropic_request import (
    ANTHROPIC_URL,
    FORMAT,
    is_anthropic,
    to_request,
)
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.clients import NO_KEY, TIMEOUT, ClientPool, tls
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.streaming import Limits, run
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess


class Anthropic:
    """The provider for this wire format."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients = ClientPool(_build, _close)

    def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`."""
        translator = Translator(Origin(FORMAT, request.model), CallIds.of(request))
        return run(self._events(request), translator, request.model, self._limits)

    async def _events(self, request: StepRequest) -> AsyncGenerator[JsonObject]:
        body = to_request(request)
        async with (
            self._clients.lease(request.model) as client,
            await client.post(
                "/v1/messages",
                cast_to=object,
                body=body,
                stream=True,
                stream_cls=AsyncStream[object],
            ) as stream,
        ):
            async for event in stream:
                yield cast("JsonObject", event)

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()


def _build(access: ModelAccess) -> AsyncAnthropic:
    key = access.api_key or NO_KEY
    client = AsyncAnthropic(
        api_key=key,
        webhook_key="",
        # The SDK appends the version itself; people copy URLs that have it already.
        base_url=(access.base_url or ANTHROPIC_URL).rstrip("/").removesuffix("/v1"),
        max_retries=0,
        timeout=TIMEOUT,
        http_client=DefaultAsyncHttpxClient(verify=tls()),
        open_telemetry=False,
    )
    # Not what the environment says, which would go to other people's servers; and those may know
    # only the older header and version.
    older = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    client._custom_headers = {} if is_anthropic(access) else older  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see above
    return client


async def _close(client: AsyncAnthropic) -> None:
    await client.close()
