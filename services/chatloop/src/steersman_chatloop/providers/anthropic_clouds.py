"""Claude on Amazon Bedrock and on Google's Vertex AI.

Anthropic's requests and events, packed and proven in other ways.

The SDK's clients for these clouds look for keys in the environment and in the files of this machine
and block while they sign; what they do beyond that is little.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import quote

import httpx2
import msgspec

from steersman_chatloop.providers import aws, direct, sse, transport, tuning, unreadable
from steersman_chatloop.providers.addresses import vertex_model_url
from steersman_chatloop.providers.anthropic_events import Translator
from steersman_chatloop.providers.anthropic_request import FORMAT, betas, to_request, unsent
from steersman_chatloop.providers.base import StepEvent, StepRequest
from steersman_chatloop.providers.clients import ClientPool, tls
from steersman_chatloop.providers.google_login import Tokens
from steersman_chatloop.providers.native import CallIds, Origin
from steersman_chatloop.providers.signals import ReportedFault
from steersman_chatloop.providers.streaming import Limits, run
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess

# The versions that every model of the cloud knows; newer ones are known to newer models alone.
BEDROCK_VERSION: Final = "bedrock-2023-05-31"
VERTEX_VERSION: Final = "vertex-2023-10-16"


class _Cloud:
    """What both have in common."""

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
            lambda body: self._events(request.model, body),
        )
        return run(events, translator, request.model, self._limits)

    def _events(self, access: ModelAccess, body: JsonObject) -> AsyncGenerator[list[JsonObject]]:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the clients."""
        await self._clients.aclose()


class Bedrock(_Cloud):
    """The provider on Amazon Bedrock."""

    async def _events(
        self, access: ModelAccess, body: JsonObject
    ) -> AsyncGenerator[list[JsonObject]]:
        content = msgspec.json.encode(bedrock_body(access, body))
        url = bedrock_url(access)
        headers = {"Content-Type": "application/json", "Accept": aws.EVENTS}
        headers |= await aws.proof(access, "POST", url, headers, content)
        async with (
            self._clients.lease(access) as client,
            direct.opened(client, url, content, headers | access.headers, aws.named) as response,
            aclosing(aws.events(response)) as batches,
        ):
            async for batch in batches:
                yield batch


class Vertex(_Cloud):
    """The provider on Vertex AI."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._tokens = Tokens()

    async def _events(
        self, access: ModelAccess, body: JsonObject
    ) -> AsyncGenerator[list[JsonObject]]:
        body = {key: value for key, value in body.items() if key != "model"}
        content = msgspec.json.encode({"anthropic_version": VERTEX_VERSION} | body)
        url = vertex_model_url(access, "anthropic", "streamRawPredict")
        headers = {"content-type": "application/json"} | await self._tokens.proof(access)
        if beta := ",".join(betas(access)):
            headers["anthropic-beta"] = beta
        headers |= {name.lower(): value for name, value in access.headers.items()}
        try:
            async with (
                self._clients.lease(access) as client,
                direct.opened(client, url, content, headers) as response,
                aclosing(sse.events(response)) as batches,
            ):
                async for batch in batches:
                    yield batch
        except ReportedFault as fault:
            if fault.status_code == 401:
                self._tokens.forget(access)
            raise


def bedrock_url(access: ModelAccess) -> str:
    """Where the model of a region streams; ids of profiles contain slashes."""
    model = quote(access.model_id, safe="")
    return f"{aws.base(access)}/model/{model}/invoke-with-response-stream"


def bedrock_body(access: ModelAccess, body: JsonObject) -> JsonObject:
    """The request as Bedrock takes it: the address says the model, and that it streams."""
    packed: JsonObject = {"anthropic_version": BEDROCK_VERSION}
    if asked := betas(access):
        packed["anthropic_beta"] = list(asked)
    return packed | {k: v for k, v in body.items() if k not in ("model", "stream")}


def _build(_: ModelAccess) -> httpx2.AsyncClient:
    return transport.client(tls())


async def _close(client: httpx2.AsyncClient) -> None:
    await client.aclose()
