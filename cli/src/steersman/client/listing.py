"""Which models a server that is compatible with OpenAI's says it has."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx2
import msgspec

from steersman.client.problems import ClientError
from steersman_contracts.rpc.models import ModelId

_MAX_LISTING: Final = 2**20
_LISTING_TIMEOUT_S: Final = 10.0


class NoListing(ClientError):
    """The server does not say."""


class _Served(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Served]


async def list_served(base_url: str, key: str | None) -> list[str]:
    """Ask a compatible server for its models.

    Raises:
        NoListing: It does not say.
    """
    address = f"{base_url.rstrip('/')}/models"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    content = b""
    try:
        async with (
            asyncio.timeout(_LISTING_TIMEOUT_S),
            httpx2.AsyncClient(timeout=_LISTING_TIMEOUT_S) as http,
            http.stream("GET", address, headers=headers) as response,
        ):
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _MAX_LISTING:
                    raise _no_listing(address, "the answer is too long")
            if response.status_code != 200:
                raise _no_listing(address, f"it answers {response.status_code}")
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
        raise _no_listing(address, str(error) or type(error).__name__) from error
    return _read_listing(address, content)


def _read_listing(address: str, content: bytes) -> list[str]:
    try:
        served = msgspec.json.decode(content, type=_Listing).data
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _no_listing(address, "the answer is no list of models") from error
    ids = [one.id for one in served if _is_model_id(one.id)]
    if not ids:
        raise _no_listing(address, "it lists none")
    return list(dict.fromkeys(ids))


def _is_model_id(text: str) -> bool:
    try:
        msgspec.convert(text, ModelId)
    except msgspec.ValidationError:
        return False
    return True


def _no_listing(address: str, reason: str) -> NoListing:
    return NoListing(
        f"{address} does not say which models there are ({reason}): name them with --model"
    )
