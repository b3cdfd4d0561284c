"""Chats from elsewhere, as a whole or not at all."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec

from steersman_contracts.chats import Chat
from steersman_contracts.ids import ModelName
from steersman_contracts.imports import ImportedMessage
from steersman_contracts.rpc import Actor, Method
from steersman_contracts.rpc.chats import ClientKey

MAX_MESSAGES: Final = 10_000
"""Messages of one imported chat."""


class ImportChat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Make a resting chat with this history."""

    actor: Actor
    messages: Annotated[tuple[ImportedMessage, ...], msgspec.Meta(max_length=MAX_MESSAGES)]
    title: str = ""
    system_prompt: str = ""
    model: ModelName | None = None
    client_key: ClientKey | None = None
    created_at: datetime | None = None


class ImportReply(msgspec.Struct, frozen=True):
    """The chat; `created` is false when an earlier request with the same key has made it."""

    chat: Chat
    created: bool


IMPORT_CHAT: Final = Method("store", "chats.import", ImportChat, ImportReply, deadline_s=30.0)
