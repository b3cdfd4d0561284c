"""Whose desktop a chat uses, and on which VNC server it is: asked of the store, and remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from steersman_contracts.errors import DeadlineExceeded, Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.desktop_chats import (
    FIND_DESKTOP,
    READ_SERVER,
    DesktopOf,
    FindDesktop,
    ReadServer,
    ServerSecret,
)
from steersman_runtime.rpc import RpcClient

KNOWN_S: Final = 60.0
"""An answer may be so old: what changes is that a parent was deleted, or a server was named."""
_MOST: Final = 10_000


class Whose:
    """Answers of the store."""

    def __init__(self, client: RpcClient) -> None:
        self._client = client
        self._known: OrderedDict[ChatId, tuple[float, DesktopOf]] = OrderedDict()
        self._servers: dict[ChatId, ServerSecret] = {}

    async def desktop(self, chat_id: ChatId, *, fresh: bool = False) -> DesktopOf:
        """The desktop of a chat.

        Args:
            chat_id: Any.
            fresh: An answer of before will not do.

        Raises:
            Unavailable: The store does not answer, and never has about this chat.
        """
        now = asyncio.get_running_loop().time()
        asked, known = self._known.get(chat_id, (0.0, None))
        if known is not None and not fresh and now - asked < KNOWN_S:
            return known
        try:
            known = await self._client.call(FIND_DESKTOP, FindDesktop(chat_id))
        except (Unavailable, DeadlineExceeded):
            if known is None:
                raise
            return known  # a desktop in use goes on without the store
        self._known[chat_id] = (now, known)
        self._known.move_to_end(chat_id)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return known

    async def server(self, chat_id: ChatId) -> ServerSecret:
        """The VNC server that the desktop of a chat is to be on; without an address: none.

        Raises:
            Unavailable: The store does not answer, and has not since the desktop was claimed.
        """
        try:
            found = await self._client.call(READ_SERVER, ReadServer(chat_id))
        except (Unavailable, DeadlineExceeded):
            if chat_id not in self._servers:
                raise
            return self._servers[chat_id]
        self._servers[chat_id] = found
        return found

    def forget(self, chat_id: ChatId) -> None:
        """Its desktop is gone: keep no password."""
        self._servers.pop(chat_id, None)
