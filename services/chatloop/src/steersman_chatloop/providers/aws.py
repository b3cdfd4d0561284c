"""What Bedrock has in common with the rest of AWS: addresses, signatures and frames of events.

Both are done by botocore's own parts, without its clients: those block, and read their keys from
wherever the machine has some.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, cast

import httpx2
import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer, ParserError

from steersman_chatloop.providers.addresses import brings_its_own_key
from steersman_chatloop.providers.clients import NO_KEY
from steersman_chatloop.providers.halves import Halves
from steersman_chatloop.providers.signals import ReportedFault, StreamFault
from steersman_chatloop.providers.sse import MAX_EVENT, joined, lenient
from steersman_contracts import cloud_keys
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess

SERVICE: Final = "bedrock"
EVENTS: Final = "application/vnd.amazon.eventstream"
_AT_ONCE: Final = 1024 * 1024
"""Bytes that are hashed without leaving the event loop."""


def base(access: ModelAccess, name: str = "bedrock-runtime") -> str:
    """The root of a service in the region of the provider, or what it is replaced by."""
    if access.base_url:
        return access.base_url.strip().rstrip("/")
    region = access.region or ""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{name}.{region}.{domain}"


async def proof(
    access: ModelAccess, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
) -> dict[str, str]:
    """The headers that prove who is calling: a signature of all this, or a key of Bedrock."""
    key = access.api_key
    if key is None and brings_its_own_key(access.headers):
        return {}
    if key is None or not cloud_keys.is_json(key):
        return {"Authorization": f"Bearer {key or NO_KEY}"}
    if len(content) > _AT_ONCE:
        return await asyncio.to_thread(_signed, access, key, method, url, headers, content)
    return _signed(access, key, method, url, headers, content)


def _signed(
    access: ModelAccess,
    key: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
) -> dict[str, str]:
    keys = cloud_keys.parse_aws(key)
    # botocore has no types.
    request = cast("Any", AWSRequest(method, url, headers=dict(headers), data=content))
    secrets = cast("Any", Credentials)(
        keys.access_key_id, keys.secret_access_key, keys.session_token
    )
    cast("Any", SigV4Auth)(secrets, SERVICE, access.region).add_auth(request)
    # The host is signed, too, and sent by the client as it is written in the address.
    return {name: value for name, value in request.headers.items() if name not in headers}


class EventReader:
    """Splits bytes, cut anywhere, into the events that Bedrock wraps."""

    def __init__(self) -> None:
        self._buffer = cast("Any", EventStreamBuffer())
        self._waiting = 0
        self._halves = Halves()

    def feed(self, chunk: bytes) -> list[JsonObject]:
        """Take in bytes and return the events that they complete.

        Raises:
            StreamFault: The bytes are not what AWS sends.
            ReportedFault: An error takes the place of an event.
        """
        self._waiting += len(chunk)
        if self._waiting > MAX_EVENT:
            raise StreamFault("malformed_response", "an event is too large")
        found: list[JsonObject] = []
        self._buffer.add_data(chunk)
        try:
            for message in self._buffer:
                self._waiting = 0
                data = _event(message.headers, message.payload)
                if data is not None:
                    found += self._decoded(data)
        except ParserError as error:
            raise StreamFault("malformed_event", "an event is not framed as AWS does") from error
        return found

    def end(self) -> list[JsonObject]:
        """What is left when the body ends."""
        return list(self._halves.end())

    def _decoded(self, data: bytes) -> list[JsonObject]:
        try:
            event = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return joined(self._halves, data)
        if not isinstance(event, dict):
            return []
        found = cast("JsonObject", event)
        return list(self._halves.take(found)) if self._halves.waits else [found]


def _event(headers: Mapping[str, Any], payload: bytes) -> bytes | None:
    """The JSON text that AWS has wrapped; None for what is nothing of the model's."""
    kind = headers.get(":message-type")
    body: Any = lenient(payload) if payload else {}
    if not isinstance(body, dict):
        raise StreamFault("malformed_event", "an event is no object")
    fields = cast("JsonObject", body)
    if kind == "exception":
        raise ReportedFault({"error": {"type": headers.get(":exception-type"), **fields}})
    if kind == "error":
        said = {"type": headers.get(":error-code"), "message": headers.get(":error-message", "")}
        raise ReportedFault({"error": said})
    wrapped = fields.get("bytes")
    if not isinstance(wrapped, str):
        return None
    try:
        return base64.b64decode(wrapped, validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise StreamFault("malformed_event", "an event is not JSON") from error


async def events(response: httpx2.Response) -> AsyncGenerator[list[JsonObject]]:
    """Yield the events of a response, those of one read together.

    Raises:
        StreamFault: The body is not what Bedrock sends.
    """
    kind = response.headers.get("content-type", "")
    if not kind.startswith(EVENTS):
        raise StreamFault("not_an_api", "the server answered with something else than events")
    reader = EventReader()
    async for chunk in response.aiter_raw():
        if found := reader.feed(chunk):
            yield found
    if found := reader.end():
        yield found


def named(response: httpx2.Response, body: Any) -> Any:
    """An error with its name, which AWS puts into a header, or beside the message."""
    fields = cast("JsonObject", body) if isinstance(body, dict) else {}
    name = response.headers.get("x-amzn-errortype") or str(fields.get("__type") or "")
    name = name.rpartition("#")[2].partition(":")[0]
    message = fields.get("message") or fields.get("Message") or ""
    return {"error": {"type": name, "message": message}}
