"""Ids in addresses. What does not look like one is not found, and never reaches a subject."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.di import NamedDependency
from litestar.params import PathParameter

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import ChatId, is_chat_id

ChatIdText = Annotated[str, PathParameter(description="The chat: a lower-case UUID.")]
ChatInPath: TypeAlias = NamedDependency[ChatId]


def known_chat_id(text: str) -> ChatId:
    """Check the shape of a chat id.

    Raises:
        NotFound: It has not the shape of one, so there is no such chat.
    """
    if not is_chat_id(text):
        raise NotFound("there is no such chat")
    return ChatId(text)


def known_number(value: int) -> int:
    """Check the range of a numeric id: no database row has a larger one.

    Raises:
        NotFound: There cannot be such a thing.
    """
    if not 0 < value < 2**63:
        raise NotFound("there is no such message")
    return value


def provide_chat(chat_id: ChatIdText) -> ChatId:
    """The chat that the address names."""
    return known_chat_id(chat_id)
