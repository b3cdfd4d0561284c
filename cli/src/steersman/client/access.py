"""Where the API is and with which token: from options, the environment, or the data directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from steersman.client.exchange import base_url
from steersman.client.problems import ClientError
from steersman.datadir import DataDir, data_dir

URL_VARIABLE: Final = "STEERSMAN_URL"
TOKEN_VARIABLE: Final = "STEERSMAN_TOKEN"


class NothingRuns(ClientError):
    """No address was given, and the data directory names none either."""


class NoToken(ClientError):
    """There is an address but no token for it."""


class Access(NamedTuple):
    """How to reach a Steersman."""

    url: str
    token: str


class _Endpoint(msgspec.Struct):
    url: str


def find_access(
    url: str | None,
    token: str | None,
    data: Path | None,
    env: Mapping[str, str] | None = None,
) -> Access:
    """Find address and token; options come before the environment, that before the directory.

    The token of the data directory is only ever sent to the address that the directory names.

    Raises:
        NothingRuns: No address.
        NoToken: No token for it.
    """
    env = os.environ if env is None else env
    directory = data_dir(data)
    local = _endpoint(directory)
    wanted = url or env.get(URL_VARIABLE) or local
    if wanted is None:
        raise NothingRuns(f"nothing runs with the data directory {directory.root}")
    wanted = base_url(wanted)
    if not wanted.startswith(("http://", "https://")):
        raise NothingRuns(f"{wanted!r} is no address: it begins with http:// or https://")
    found = token or env.get(TOKEN_VARIABLE)
    if not found and local is not None and base_url(local) == wanted:
        found = _token(directory)
    if not found:
        raise NoToken(f"a token for {wanted} is needed: --token or {TOKEN_VARIABLE}")
    return Access(wanted, found.strip())


def _endpoint(directory: DataDir) -> str | None:
    try:
        return msgspec.json.decode(directory.endpoint.read_bytes(), type=_Endpoint).url
    except (OSError, msgspec.DecodeError):
        return None


def _token(directory: DataDir) -> str | None:
    try:
        return directory.api_token.read_text().strip()
    except PermissionError as error:
        raise NoToken(
            f"{directory.api_token} belongs to somebody else: --token or {TOKEN_VARIABLE}"
        ) from error
    except OSError:
        return None
