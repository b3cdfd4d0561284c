"""The client of OpenAI's SDK, for both of its wire formats.

Requests go through `client.post` with encoded JSON, and the SDK's stream is read as bytes: the
typed methods would copy the whole history to check it and build a model from every event, which
costs more than everything that we do with it and loses the order of keys and whatever the models do
not know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, cast

import msgspec
from openai import AsyncOpenAI, AsyncStream, Omit
from openai._types import RequestOptions

from steersman_chatloop.providers import sse, transport
from steersman_chatloop.providers.addresses import brings_its_own_key, openai_address
from steersman_chatloop.providers.clients import NO_KEY, ClientPool, tls
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess

JSON: Final = {"Content-Type": "application/json"}


def pool() -> ClientPool[AsyncOpenAI]:
    """Make an empty pool of clients."""
    return ClientPool(_build, _close)


def _build(access: ModelAccess) -> AsyncOpenAI:
    address = openai_address(access)
    client = AsyncOpenAI(
        api_key=access.api_key or NO_KEY,
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=address.url,
        default_query=address.query,
        max_retries=0,
        timeout=transport.TIMEOUT,
        http_client=transport.client(tls()),
    )
    # Empty above, so that the SDK does not look into the environment; None here, so that no empty
    # header is sent. Extra headers have no such switch, and must not go to other people's servers.
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = {}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see above
    return client


async def _close(client: AsyncOpenAI) -> None:
    await client.close()


def _headers(access: ModelAccess) -> dict[str, str | Omit]:
    own: dict[str, str | Omit] = {**JSON, **access.headers}
    if brings_its_own_key(access.headers):
        given = {name.lower(): value for name, value in access.headers.items()}
        own = {name: value for name, value in own.items() if name.lower() != "authorization"}
        own["Authorization"] = given.get("authorization") or Omit()
    return own


async def events(
    clients: ClientPool[AsyncOpenAI], access: ModelAccess, path: str, body: JsonObject
) -> AsyncGenerator[list[JsonObject]]:
    """Send the request and yield its events, those that arrived together in one list."""
    options = cast("RequestOptions", {"headers": _headers(access)})
    async with (
        clients.lease(access) as client,
        await client.post(
            path,
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
