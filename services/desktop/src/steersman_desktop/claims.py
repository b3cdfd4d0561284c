"""For whom desktops count: the store counts those of each person, over all hosts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import structlog

from steersman_contracts.errors import SteersmanError
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.desktop_chats import (
    CLAIM_DESKTOP,
    RELEASE_DESKTOP,
    RENEW_DESKTOPS,
    ClaimDesktop,
    ReleaseDesktop,
    RenewDesktops,
)
from steersman_runtime.rpc import RpcClient

log = structlog.stdlib.get_logger()

CLAIM_S: Final = 60.0
"""The desktops of a host that died count for so long. A restart of the store is shorter."""
RENEW_CLAIMS_S: Final = 10.0
_RELEASE_S: Final = 2.0
"""A desktop does not wait longer for the store to end; the claim then expires by itself."""


class Claims:
    """What the store counts for this instance."""

    def __init__(self, client: RpcClient, host: str, most: int) -> None:
        """Begin.

        Args:
            client: Asks the store.
            host: The name of this instance among all that have ever been.
            most: Desktops of one person; instances with different settings each hold their own.
        """
        self._client = client
        self._host = host
        self._most = most

    async def take(self, chat_id: ChatId) -> None:
        """Count the desktop of a chat that this instance has.

        Raises:
            TooManyRequests: The owner of the chat has as many as they may.
            Unavailable: The store does not answer.
        """
        await self._client.call(
            CLAIM_DESKTOP, ClaimDesktop(chat_id, self._host, self._most, CLAIM_S)
        )

    async def renew(self, chats: Collection[ChatId]) -> None:
        """Go on counting these, of which there are at most 1,000 on a host."""
        if not chats:
            return
        try:
            request = RenewDesktops(self._host, tuple(chats), CLAIM_S)
            await self._client.call(RENEW_DESKTOPS, request)
        except SteersmanError as error:  # asked again soon
            log.warning("claims.not_renewed", error_code=error.code)

    async def leave(self, chat_id: ChatId) -> None:
        """Count it no more; what the store does not hear, it finds out."""
        try:
            request = ReleaseDesktop(chat_id, self._host)
            await self._client.call(RELEASE_DESKTOP, request, deadline_s=_RELEASE_S)
        except SteersmanError as error:
            log.warning("claim.not_left", chat_id=chat_id, error_code=error.code)
