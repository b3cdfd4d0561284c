"""VNC servers that people name for the desktops of their chats. Passwords go in and never out."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor, Method, Nothing

MAX_ADDRESS: Final = 300
MAX_PASSWORD: Final = 100
"""VNC reads eight characters of it; servers that take more are not spoken to here."""

ServerAddress = Annotated[str, msgspec.Meta(min_length=3, max_length=MAX_ADDRESS)]
ServerPassword = Annotated[str, msgspec.Meta(max_length=MAX_PASSWORD)]


class PutServer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Let the chat's desktop be that of a VNC server, from its next start on."""

    actor: Actor
    chat_id: ChatId
    address: ServerAddress
    password: ServerPassword | None = None
    """None keeps the one that is stored for the same address; empty stores none."""


class OneServer(msgspec.Struct, frozen=True):
    """The VNC server of a chat."""

    actor: Actor
    chat_id: ChatId


class DesktopServer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A VNC server that serves as the desktop of a chat."""

    address: str = ""
    """`host:port`; empty: the chat has a desktop of our own."""
    has_password: bool = False


class CheckServer(msgspec.Struct, frozen=True):
    """May a chat use this VNC server? Asked of the desktop service, which alone connects to it."""

    actor: Actor
    chat_id: ChatId
    address: ServerAddress


PUT_SERVER: Final = Method("store", "chats.put_desktop_server", PutServer, DesktopServer, safe=True)
GET_SERVER: Final = Method("store", "chats.get_desktop_server", OneServer, DesktopServer, safe=True)
DELETE_SERVER: Final = Method("store", "chats.delete_desktop_server", OneServer, Nothing, safe=True)
CHECK_SERVER: Final = Method("desktop", "servers.check", CheckServer, Nothing, safe=True)
