"""Calls about the desktop of a chat, for somebody who may see the chat."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec
from litestar.di import NamedDependency

from steersman_contracts.chats import Chat, Transition
from steersman_contracts.errors import TransitionRefused
from steersman_contracts.rpc import Actor, Method
from steersman_contracts.rpc.chats import GET, GetChat
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Backend, Services
from steersman_gateway.ids import ChatInPath

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class ChatDesktop:
    """One chat, one person who may see it, and the way to its desktop."""

    def __init__(self, backend: Backend, actor: Actor, chat: Chat) -> None:
        self._backend = backend
        self._chat = chat
        self.ids = (actor, chat.id)
        """With which every request begins."""

    async def call(self, method: Method[Q, R], request: Q) -> R:
        """Call a method; raises what the service raises."""
        return await self._backend.call(method, request)

    async def change(self, method: Method[Q, R], request: Q) -> R:
        """The same for what starts or uses the desktop, which an archived chat does not.

        Raises:
            TransitionRefused: The chat is archived.
        """
        if self._chat.archived:
            status, transition = self._chat.status.value, Transition.UPDATE.value
            raise TransitionRefused(
                f"{transition!r} is not allowed while the chat is {status!r} and archived",
                status=status,
                transition=transition,
                archived=True,
            )
        return await self.call(method, request)


async def provide_desktop(chat: ChatInPath, actor: CurrentActor, backend: Services) -> ChatDesktop:
    """Let those through who may see the chat. The desktop service does not know whose it is."""
    found = await backend.call(GET, GetChat(actor, chat))
    return ChatDesktop(backend, actor, found.chat)


DesktopOfChat: TypeAlias = NamedDependency[ChatDesktop]
