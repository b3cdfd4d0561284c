"""Access tokens of Google Cloud for keys that are JSON: service accounts, and people's own access.

google-auth signs and reads the answers; it blocks, so it works in a thread, and one request for a
token serves all calls that wait for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, cast

import httpx2
import msgspec
from google.auth import exceptions, transport
from google.auth.credentials import Credentials
from google.oauth2 import credentials as people
from google.oauth2 import service_account

from steersman_chatloop.providers.addresses import brings_its_own_key
from steersman_chatloop.providers.clients import NO_KEY, tls
from steersman_chatloop.providers.signals import ReportedFault
from steersman_contracts import cloud_keys
from steersman_contracts.rpc.worker import ModelAccess

SCOPES: Final = ["https://www.googleapis.com/auth/cloud-platform"]
TIMEOUT_S: Final = 15.0
MAX_ACCOUNTS: Final = 64


class _Response(transport.Response):
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.content


class _Request(transport.Request):
    """How google-auth asks for a token: with the client that everything else here uses."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Response:
        try:
            with httpx2.Client(verify=tls(), timeout=timeout or TIMEOUT_S) as client:
                return _Response(client.request(method, url, content=body, headers=headers))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise exceptions.TransportError(error) from error


class _Account:
    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.lock = asyncio.Lock()


class Tokens:
    """Tokens by key, renewed some minutes before they end."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    async def proof(self, access: ModelAccess) -> dict[str, str]:
        """The headers that prove who is calling.

        Raises:
            ReportedFault: The key cannot be used, or Google gives no token for it now.
        """
        if access.api_key is None and brings_its_own_key(access.headers):
            return {}
        key = access.api_key or NO_KEY
        if not cloud_keys.is_json(key):
            # Access tokens of OAuth tell themselves by their beginning.
            if key.startswith("ya29."):
                return {"authorization": f"Bearer {key}"}
            return {"x-goog-api-key": key}
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(_credentials(key))
            while len(self._accounts) > MAX_ACCOUNTS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(key)
        async with account.lock:
            if not account.credentials.valid:
                await asyncio.to_thread(_refresh, account.credentials)
            headers = {"authorization": f"Bearer {cast('str', account.credentials.token)}"}
        keys = cloud_keys.parse_google(key)
        if isinstance(keys, cloud_keys.AuthorizedUser) and keys.quota_project_id:
            headers["x-goog-user-project"] = keys.quota_project_id
        return headers

    def forget(self, access: ModelAccess) -> None:
        """Drop a token that was refused: the next call asks for another."""
        self._accounts.pop(access.api_key or "", None)


def _credentials(key: str) -> Credentials:
    keys = cloud_keys.parse_google(key)
    info: dict[str, Any] = msgspec.to_builtins(keys)
    info.setdefault("token_uri", keys.token_uri)
    if isinstance(keys, cloud_keys.AuthorizedUser):
        return people.Credentials(
            token=None,
            refresh_token=keys.refresh_token,
            token_uri=keys.token_uri,
            client_id=keys.client_id,
            client_secret=keys.client_secret,
        )
    try:
        kind = cast("Any", service_account).Credentials  # partly typed
        made: Credentials = kind.from_service_account_info(info, scopes=SCOPES)
    except (ValueError, exceptions.GoogleAuthError):
        # What it says may quote the key.
        said = {"code": "invalid_api_key", "message": "the private key cannot be read"}
        raise ReportedFault(said) from None
    return made


def _refresh(credentials: Credentials) -> None:
    try:
        cast("Any", credentials).refresh(_Request())
    except exceptions.TransportError as error:
        said = {"message": "Google's server of tokens cannot be reached"}
        raise ReportedFault(said, status=503) from error
    except exceptions.RefreshError as error:
        if cast("Any", error).retryable:
            said = {"message": "Google's server of tokens has a fault"}
            raise ReportedFault(said, status=503) from error
        said = {"code": "unauthenticated", "message": f"no token for this key: {error.args[0]}"}
        raise ReportedFault(said) from error
