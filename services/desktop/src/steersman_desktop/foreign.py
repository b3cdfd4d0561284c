"""One chat at a time on a VNC server of somebody else, over all instances of the service.

Two agents that press keys on one screen would be worse than either alone, and one person would
see what another one's agent does there.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable

from steersman_contracts import subjects
from steersman_contracts.errors import Unavailable
from steersman_contracts.ids import ChatId
from steersman_desktop.hosts import Hosts
from steersman_runtime.nats_client import NatsClient

TAKEN = "another chat uses this VNC server at the moment; try again when its desktop has stopped"
"""Not which chat, nor whose: they may be strangers to each other."""


def lease_of(address: str, hostname: Callable[[], str] = socket.gethostname) -> str:
    """A token for a server that any instance gets from its checked address."""
    # The same path on two machines is two servers.
    place = f"{hostname()}/{address}" if address.startswith("unix:") else address
    return hashlib.sha256(place.encode()).hexdigest()[:32]


class ServerLeases:
    """Which of the servers this instance has, and for which chat."""

    def __init__(self, client: NatsClient, host: str) -> None:
        self._entries = Hosts[str](client, host, subjects.vnc_server)
        self._of: dict[ChatId, str] = {}

    async def take(self, chat_id: ChatId, address: str) -> None:
        """Have a server for a chat until it is left.

        Raises:
            Unavailable: Another chat has it, or JetStream does not answer.
        """
        lease = lease_of(address)
        if self._of.get(chat_id) == lease:
            return
        await self.leave(chat_id)  # the one that was named before
        if lease in self._of.values():
            raise Unavailable(TAKEN)
        self._of[chat_id] = lease  # before we wait: another chat of ours may want it, too
        try:
            entry = await self._entries.find(lease)
            free = entry is None or not entry.host
            won = free and await self._entries.claim(lease, entry)
        except BaseException:
            del self._of[chat_id]
            raise
        if not won:
            del self._of[chat_id]
            raise Unavailable(TAKEN)

    async def renew(self, chat_id: ChatId) -> bool:
        """Keep the server of a chat, if it has one; False if another chat has it now."""
        lease = self._of.get(chat_id)
        return lease is None or await self._entries.renew(lease)

    async def leave(self, chat_id: ChatId) -> None:
        """Let others have it."""
        lease = self._of.pop(chat_id, None)
        if lease is not None:
            await self._entries.leave(lease)
