"""Virtual desktops."""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor, Method


class GetDesktop(msgspec.Struct, frozen=True):
    """The desktop of a chat."""

    actor: Actor
    chat_id: ChatId


class Desktop(msgspec.Struct, frozen=True):
    """A desktop that can be watched and used."""

    chat_id: ChatId
    state: str


GET_DESKTOP: Final = Method("desktop", "sessions.get", GetDesktop, Desktop, safe=True)
