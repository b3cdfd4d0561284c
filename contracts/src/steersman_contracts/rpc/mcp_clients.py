"""As whom we are registered at the sign-in servers of MCP servers, so that once is enough."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import Uuid
from steersman_contracts.rpc import Method, Nothing

Place = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]


class Client(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a sign-in server has made of us."""

    client_id: str
    client_secret: str | None = None
    auth_method: str | None = None


class FindClient(msgspec.Struct, frozen=True):
    """The registration of a server at an issuer, for one way back, if it can still be used."""

    server_id: Uuid
    issuer: Place
    redirect_uri: Place


class FoundClient(msgspec.Struct, frozen=True, omit_defaults=True):
    """None: register."""

    client: Client | None = None


class KeepClient(msgspec.Struct, frozen=True, omit_defaults=True):
    """Use this registration from now on.

    Until somebody has signed in with it, for minutes only: it may be no good.
    """

    server_id: Uuid
    issuer: Place
    redirect_uri: Place
    client: Client
    expires_in_s: float | None = None
    """Of its secret; None: never."""


class ForgetClient(msgspec.Struct, frozen=True):
    """The issuer does not know it any more."""

    server_id: Uuid
    client_id: str


FIND_CLIENT: Final = Method("store", "mcp_book.find_client", FindClient, FoundClient, safe=True)
KEEP_CLIENT: Final = Method("store", "mcp_book.keep_client", KeepClient, Nothing, safe=True)
FORGET_CLIENT: Final = Method("store", "mcp_book.forget_client", ForgetClient, Nothing, safe=True)
