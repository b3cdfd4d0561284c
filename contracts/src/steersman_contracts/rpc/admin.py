"""What the operator of a deployment does from its command line; no other user may."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import ModelName, UserId
from steersman_contracts.rpc import Method


class Bootstrap(msgspec.Struct, frozen=True):
    """Make sure that there is an admin; safe to repeat."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "admin"
    known_token_digest: str | None = None
    """Hex SHA-256 of a token from an earlier start; no new one is made while it is valid."""


class Bootstrapped(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the operator gets in."""

    user_id: UserId
    sign_in_code: str
    """Good once, for 15 minutes."""
    token: str | None = None
    """A new API token, or None when the known one is still valid."""
    default_model: ModelName | None = None


BOOTSTRAP: Final = Method("store", "admin.bootstrap", Bootstrap, Bootstrapped)
