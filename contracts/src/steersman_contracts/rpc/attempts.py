"""What chatloop tells the store of attempts of which nothing is stored: they cost as much."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.chats import Usage
from steersman_contracts.ids import ChatId, ModelName
from steersman_contracts.rpc import Method, Nothing

Purpose: TypeAlias = Literal["attempt", "summary"]
"""A step that was tried again or came to nothing, or a summary that was empty, cut or given up."""


class CountAttempt(msgspec.Struct, frozen=True):
    """Add what an attempt has used to what its chat has cost, and to the limits of its turn.

    The same attempt again changes nothing. No fence: it says what has happened, whoever owns the
    chat by now.
    """

    chat_id: ChatId
    history_version: Annotated[int, msgspec.Meta(ge=0)]
    attempt: Annotated[int, msgspec.Meta(ge=0)]
    purpose: Purpose
    model: ModelName
    usage: Usage | None
    """None: it has said something, and nobody has said what that was. It counts as unknown."""


COUNT_ATTEMPT: Final = Method("store", "worker.count_attempt", CountAttempt, Nothing, safe=True)
