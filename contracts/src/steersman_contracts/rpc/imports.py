"""Chats from elsewhere, as a whole or not at all."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec

from steersman_contracts.chats import Chat
from steersman_contracts.ids import ModelName
from steersman_contracts.imports import ImportedMessage
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.chats import ClientKey

MAX_MESSAGES: Final = 10_000
"""Messages of one imported chat."""
MAX_STAGED_BYTES: Final = 64 * 2**20
"""Bytes that wait for one person's imports."""


class ImportChat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Make a resting chat with this history."""

    actor: Actor
    messages: Annotated[tuple[ImportedMessage, ...], msgspec.Meta(max_length=MAX_MESSAGES)]
    title: str = ""
    system_prompt: str = ""
    model: ModelName | None = None
    client_key: ClientKey | None = None
    created_at: datetime | None = None
    staged: Annotated[int, msgspec.Meta(ge=0, le=MAX_MESSAGES)] = 0
    """How many messages were brought before, under the same key; `messages` follow them."""


class StageImport(msgspec.Struct, frozen=True):
    """Bring some messages of a chat that is to be imported, to wait for the rest for a day."""

    actor: Actor
    client_key: ClientKey
    first: Annotated[int, msgspec.Meta(ge=0, le=MAX_MESSAGES - 1)]
    """The number of the first of them in the chat. The same number again replaces them."""
    messages: Annotated[
        tuple[ImportedMessage, ...], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)
    ]


class ImportReply(msgspec.Struct, frozen=True):
    """The chat; `created` is false when an earlier request with the same key has made it."""

    chat: Chat
    created: bool


IMPORT_CHAT: Final = Method("store", "chats.import", ImportChat, ImportReply, deadline_s=30.0)
STAGE_IMPORT: Final = Method(
    "store", "chats.stage_import", StageImport, Nothing, deadline_s=15.0, safe=True
)
