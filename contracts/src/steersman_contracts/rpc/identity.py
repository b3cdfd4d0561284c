"""Who is asking: tokens and sign-in links. Asked by the gateway before it acts for anybody."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from steersman_contracts.ids import UserId
from steersman_contracts.rpc import Actor, Method, UserRole


class User(msgspec.Struct, frozen=True):
    """A person, or a program with rights of its own."""

    id: UserId
    name: str
    role: UserRole
    created_at: datetime


class Authenticate(msgspec.Struct, frozen=True):
    """Whose token is this?"""

    token_digest: str
    """Hex SHA-256 of the token; the token itself is never stored, logged or sent on."""


class Identity(msgspec.Struct, frozen=True):
    """The person behind a token."""

    actor: Actor
    user: User


class RedeemSignIn(msgspec.Struct, frozen=True):
    """Exchange a one-time code for a token."""

    code_digest: str
    """Hex SHA-256 of the code."""


class NewToken(msgspec.Struct, frozen=True):
    """A token, shown this once."""

    token: str


AUTHENTICATE: Final = Method("store", "identity.authenticate", Authenticate, Identity, safe=True)
REDEEM_SIGN_IN: Final = Method("store", "identity.redeem_sign_in", RedeemSignIn, NewToken)
