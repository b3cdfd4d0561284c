"""The people of a deployment, as its admins see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from steersman_contracts.ids import UserId
from steersman_contracts.rpc import Actor, Method, UserRole

UserName = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$(?!\n)")]


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person."""

    id: UserId
    name: str
    role: UserRole
    created_at: datetime
    disabled: bool = False
    """None of the person's tokens and links work; their chats stay."""


class CreateUser(msgspec.Struct, frozen=True, omit_defaults=True):
    """Add a person. Admins only."""

    actor: Actor
    name: UserName
    role: UserRole = "member"


class ListUsers(msgspec.Struct, frozen=True):
    """Everybody. Admins only."""

    actor: Actor


class UserList(msgspec.Struct, frozen=True):
    """Ordered by name."""

    users: tuple[Account, ...]


class UpdateUser(msgspec.Struct, frozen=True, omit_defaults=True):
    """Disable a person or change the role. Admins only; one admin always stays."""

    actor: Actor
    user_id: UserId
    role: UserRole | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class NewSignIn(msgspec.Struct, frozen=True):
    """Make a sign-in link for a person; earlier ones stop working. Admins only."""

    actor: Actor
    user_id: UserId


class UserReply(msgspec.Struct, frozen=True):
    """The person after the change."""

    user: Account


class SignIn(msgspec.Struct, frozen=True):
    """A person and the way in, shown this once."""

    user: Account
    code: str
    """Good once, until `expires_at`, at `/sign-in/<code>`."""
    expires_at: datetime


CREATE_USER: Final = Method("store", "identity.create_user", CreateUser, SignIn)
LIST_USERS: Final = Method("store", "identity.list_users", ListUsers, UserList, safe=True)
UPDATE_USER: Final = Method("store", "identity.update_user", UpdateUser, UserReply, safe=True)
NEW_SIGN_IN: Final = Method("store", "identity.new_sign_in", NewSignIn, SignIn)
