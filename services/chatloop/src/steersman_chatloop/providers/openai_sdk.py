"""The client of OpenAI's SDK, for both of its wire formats.

Requests go through `client.post` with plain objects: the typed methods would copy the whole history
to check it and build a model from every event, which costs more than everything that we do with it
and loses the order of keys and whatever the models do not know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import cast

from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient

from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.clients import NO_KEY, TIMEOUT, ClientPool, tls
from steersman_chatloop.providers.openai_chat_request import OPENAI_URL
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess


def pool() -> ClientPool[AsyncOpenAI]:
    """Make an empty pool of clients."""
    return ClientPool(_build, _close)


def _build(access: ModelAccess) -> AsyncOpenAI:
    client = AsyncOpenAI(
        api_key=access.api_key or NO_KEY,
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=access.base_url or OPENAI_URL,
        max_retries=0,
        timeout=TIMEOUT,
        http_client=DefaultAsyncHttpxClient(verify=tls()),
    )
    # Empty above, so that the SDK does not look into the environment; None here, so that no empty
    # header is sent. Extra headers have no such switch, and must not go to other people's servers.
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = {}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see above
    return client


async def _close(client: AsyncOpenAI) -> None:
    await client.close()


async def events(
    clients: ClientPool[AsyncOpenAI],
    request: StepRequest,
    path: str,
    to_request: Callable[[StepRequest], JsonObject],
) -> AsyncGenerator[JsonObject]:
    """Send the request and yield its events as plain objects."""
    body = to_request(request)
    async with (
        clients.lease(request.model) as client,
        await client.post(
            path, cast_to=object, body=body, stream=True, stream_cls=AsyncStream[object]
        ) as stream,
    ):
        async for event in stream:
            yield cast("JsonObject", event)  # `object` is how the SDK says: leave it alone
