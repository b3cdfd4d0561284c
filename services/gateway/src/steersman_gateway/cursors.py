"""Pagination cursors: opaque to clients, versioned, and never trusted."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Final

from steersman_contracts.errors import BadCursor
from steersman_contracts.ids import ChatId, is_chat_id

_VERSION: Final = "1"
_MAX_LENGTH: Final = 200


def encode_cursor(position: tuple[datetime, ChatId]) -> str:
    """The cursor after which to go on."""
    updated_at, chat_id = position
    text = "|".join((_VERSION, updated_at.astimezone(UTC).isoformat(), chat_id))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, ChatId]:
    """The position that a cursor stands for.

    Raises:
        BadCursor: It is not one that `encode_cursor` makes, to the letter.
    """
    refused = BadCursor("this is not a cursor of this list", field="cursor")
    if len(cursor) > _MAX_LENGTH or not cursor.isascii():
        raise refused
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        version, updated_at, chat_id = text.split("|")
        position = datetime.fromisoformat(updated_at), ChatId(chat_id)
    except (binascii.Error, ValueError) as error:
        raise refused from error
    if version != _VERSION or not is_chat_id(chat_id) or position[0].tzinfo is None:
        raise refused
    if encode_cursor(position) != cursor:
        raise refused
    return position
