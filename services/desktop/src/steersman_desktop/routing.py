"""The way of a request: to the desktop that its chat uses, on the host that has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog

from steersman_contracts.errors import InvalidRequest, Unavailable
from steersman_contracts.ids import ChatId, is_chat_id
from steersman_contracts.rpc import Method
from steersman_contracts.rpc import desktop as rpc
from steersman_contracts.rpc.desktop_chats import DesktopOf
from steersman_desktop.hosts import Hosts
from steersman_desktop.programs import unavailable
from steersman_desktop.whose import Whose
from steersman_runtime.rpc import RpcClient, RpcServer

log = structlog.stdlib.get_logger()

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class Routes:
    """Puts handlers behind the methods that all instances share, and those of this one alone."""

    def __init__(
        self,
        server: RpcServer,
        hosts: Hosts[ChatId],
        client: RpcClient,
        whose: Whose,
        *,
        missing: Callable[[], tuple[str, ...]],
        is_here: Callable[[ChatId], bool],
    ) -> None:
        """Begin.

        Args:
            server: Answers.
            hosts: Who has which desktop.
            client: Calls other instances.
            whose: Which chat uses which desktop.
            missing: The programs that desktops of our own need and this machine lacks.
            is_here: Whether this instance has the desktop of a chat.
        """
        self._server = server
        self._hosts = hosts
        self._client = client
        self._whose = whose
        self._missing = missing
        self._is_here = is_here

    def add(self, method: Method[Q, R], handler: Callable[[Q], Awaitable[R]]) -> None:
        """Answer a method whose requests name a chat."""

        async def routed(asked: Q) -> R:
            request = _of(asked, await self._desktop_of(_chat_of(asked)))
            chat_id = _chat_of(request)
            if not self._is_here(chat_id):
                entry = await self._hosts.find(chat_id)
                if entry is not None and entry.host not in {"", self._hosts.host}:
                    try:
                        return await self._client.call(rpc.at_host(method, entry.host), request)
                    except Unavailable as error:
                        if error.details.get("service") != "desktop" or "started" in error.details:
                            raise
                        log.warning("host.gone", chat_id=chat_id, host=entry.host)
            return await handler(request)

        self._server.add(method, routed)
        self._server.add(rpc.at_host(method, self._hosts.host), handler)

    async def _desktop_of(self, chat_id: ChatId) -> DesktopOf:
        """The desktop that a chat uses.

        Raises:
            DesktopUnavailable: It would be one of our own, for which this machine lacks something.
        """
        missing = self._missing()
        try:
            found = await self._whose.desktop(chat_id, fresh=bool(missing))
        except Unavailable:
            if missing:  # that is what an administrator has to hear of first
                raise unavailable(missing) from None
            raise
        if missing and not found.server:
            raise unavailable(missing)
        return found


def _chat_of(request: msgspec.Struct) -> ChatId:
    chat_id: str = getattr(request, "chat_id", "")
    if not is_chat_id(chat_id):
        raise InvalidRequest(f"not a chat id: {chat_id!r:.80}", field="chat_id")
    return ChatId(chat_id)


def _of(request: Q, found: DesktopOf) -> Q:
    """The request as one to the desktop that the chat uses."""
    changes: dict[str, Any] = {"chat_id": found.chat_id}
    if isinstance(request, rpc.PerformAction | rpc.CancelAction):
        changes["agent"] = _chat_of(request) if found.above else None
    if isinstance(request, rpc.PerformAction):
        changes["above"] = found.above
    return msgspec.structs.replace(request, **changes)
