"""What the desktop service asks about chats: whether they still exist."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import ChatId
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
