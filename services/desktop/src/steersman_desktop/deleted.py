"""Asks the store which chats are no more.

Asked again and again rather than heard on the event log: whoever reads the log reads what every
chat says, and would still miss what happened while it was away.
"""

from __future__ import annotations

from collections.abc import Iterable

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.desktop_chats import FIND_DELETED, MAX_CHATS, FindDeleted
from steersman_runtime.rpc import RpcClient


async def find_deleted(client: RpcClient, chats: Iterable[ChatId]) -> set[ChatId]:
    """Those of these chats that were deleted.

    Raises:
        SteersmanError: The store does not answer; nothing is known then.
    """
    asked = sorted(set(chats))
    deleted: set[ChatId] = set()
    for start in range(0, len(asked), MAX_CHATS):
        request = FindDeleted(tuple(asked[start : start + MAX_CHATS]))
        deleted.update((await client.call(FIND_DELETED, request)).chat_ids)
    return deleted & set(asked)
