"""What the desktop service asks about chats: do they exist, what desktop is theirs, may it run."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.chats import AgentKind
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Method, Nothing

MAX_CHATS: Final = 1000
"""In one request."""


class FindDeleted(msgspec.Struct, frozen=True):
    """Which of these chats are no more?"""

    chat_ids: Annotated[tuple[ChatId, ...], msgspec.Meta(max_length=MAX_CHATS)]


class Deleted(msgspec.Struct, frozen=True):
    """Those that were deleted, in no order."""

    chat_ids: tuple[ChatId, ...] = ()


FIND_DELETED: Final = Method("store", "desktop_chats.find_deleted", FindDeleted, Deleted, safe=True)


class FindDesktop(msgspec.Struct, frozen=True):
    """Which desktop does this chat use?"""

    chat_id: ChatId


class DesktopOf(msgspec.Struct, frozen=True, omit_defaults=True):
    """The desktop that a chat uses. One that does not exist (any more) has its own."""

    chat_id: ChatId
    """Whose it is: the chat's own, or one above it that shares its desktop."""
    above: tuple[ChatId, ...] = ()
    """The chats above the one that asks, its parent first, up to the one whose desktop it is."""
    agent_kind: AgentKind | None = None
    """Of the chat that asks; None: it is nobody's agent."""
    server: str = ""
    """The VNC server that the owner has named for it; empty: one of our own desktops."""


class ReadServer(msgspec.Struct, frozen=True):
    """The VNC server of a chat, with its password."""

    chat_id: ChatId


class ServerSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is needed to log in. Never in a reply to anybody but the desktop service."""

    address: str
    """`host:port`; empty: the chat has none."""
    password: str = ""


FIND_DESKTOP: Final = Method("store", "desktop_chats.find", FindDesktop, DesktopOf, safe=True)
READ_SERVER: Final = Method("store", "desktop_chats.server", ReadServer, ServerSecret, safe=True)

KeepS = Annotated[float, msgspec.Meta(ge=5, le=3600)]


class ClaimDesktop(msgspec.Struct, frozen=True):
    """Count a desktop for the owner of its chat, over all hosts; again is as once.

    Raises `TooManyRequests` where the owner has as many as they may.
    """

    chat_id: ChatId
    """Whose desktop it is."""
    host: str
    """The instance of the service that has the chat; it takes the place of any before."""
    most: Annotated[int, msgspec.Meta(ge=1)]
    """Desktops of one person."""
    keep_s: KeepS
    """Seconds for which it counts, unless it is renewed: the host may die."""


class RenewDesktops(msgspec.Struct, frozen=True):
    """These desktops of a host still run. Those that it has given up are left alone."""

    host: str
    chat_ids: Annotated[tuple[ChatId, ...], msgspec.Meta(max_length=MAX_CHATS)]
    keep_s: KeepS


class ReleaseDesktop(msgspec.Struct, frozen=True):
    """The desktop of a chat has ended; that of another host goes on counting."""

    chat_id: ChatId
    host: str


CLAIM_DESKTOP: Final = Method("store", "desktop_chats.claim", ClaimDesktop, Nothing, safe=True)
RENEW_DESKTOPS: Final = Method("store", "desktop_chats.renew", RenewDesktops, Nothing, safe=True)
RELEASE_DESKTOP: Final = Method(
    "store", "desktop_chats.release", ReleaseDesktop, Nothing, safe=True
)
