"""What the desktop service asks about chats: whether they exist, and what desktop is theirs."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.chats import AgentKind
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Method

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
    owner: UserId | None = None
    """Whose chat that is, and so for whom the desktop counts; None: the store does not say."""


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
