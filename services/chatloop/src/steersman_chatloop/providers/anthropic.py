"""Anthropic's Messages API, and servers that speak it.

Requests go through `client.post` with encoded JSON, for the reasons given in `openai_sdk`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import cast

import msgspec
from anthropic import AsyncAnthropic, AsyncStream, Omit
from anthropic._types import RequestOptions

from steersman_chatloop.providers import sse, transport, tuning, unreadable
from steersman_chatloop.providers.addresses import anthropic_url, brings_its_own_key
from steersman_chatloop.providers.anthropic_events import Translator
from steersman_chatloop.providers.anthropic_request import (
    FORMAT,
    is_anthropic,
    needed_betas,
    to_request,
    unsent,
)
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.clients import NO_KEY, ClientPool, tls
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
        tuning.unsent(request.model, unsent(request.model))
        translator = Translator(Origin(FORMAT, request.model), CallIds.of(request))
        events = unreadable.answers(
            request,
            to_request(request),
            to_request,
            lambda body: self._events(request.model, body, needed_betas(request)),
        )
        return run(events, translator, request.model, self._limits)

    async def _events(
        self, access: ModelAccess, body: JsonObject, betas: Iterable[str]
    ) -> AsyncGenerator[list[JsonObject]]:
        options = cast("RequestOptions", {"headers": _headers(access, betas)})
        async with (
            self._clients.lease(access) as client,
            await client.post(
                "/v1/messages",
                cast_to=object,
                content=msgspec.json.encode(body),
                options=options,
                stream=True,
                stream_cls=AsyncStream[object],
            ) as stream,
            aclosing(sse.events(stream.response)) as batches,
        ):
            async for batch in batches:
                yield batch

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()


def _build(access: ModelAccess) -> AsyncAnthropic:
    client = AsyncAnthropic(
        api_key=access.api_key or NO_KEY,
        webhook_key="",
        base_url=anthropic_url(access),
        max_retries=0,
        timeout=transport.TIMEOUT,
        http_client=transport.client(tls()),
        open_telemetry=False,
    )
    # Not what the environment says, which would go to other people's servers.
    client._custom_headers = {}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see above
    return client


async def _close(client: AsyncAnthropic) -> None:
    await client.close()


def _headers(access: ModelAccess, betas: Iterable[str]) -> dict[str, str | Omit]:
    own: dict[str, str | Omit] = {"Content-Type": "application/json"}
    has_key = brings_its_own_key(access.headers)
    if not is_anthropic(access):
        # Other servers may know only the older version, and the older header for the key.
        own["anthropic-version"] = "2023-06-01"
        if not has_key:
            own["x-api-key"] = access.api_key or NO_KEY
    given = {name.lower(): value for name, value in access.headers.items()}
    if has_key:
        own["Authorization"] = given.pop("authorization", None) or Omit()
    if beta := ",".join(filter(None, (given.pop("anthropic-beta", ""), *betas))):
        own["anthropic-beta"] = beta
    for name in [name for name in own if name.lower() in given]:
        del own[name]
    return own | given
