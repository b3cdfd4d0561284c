"""Identifiers. Each is a type of its own, so that one is never passed for another."""

from __future__ import annotations

import re
from typing import Annotated, Final, NewType

import msgspec

ChatId = NewType("ChatId", str)
"""A lower-case UUID (version 7) with dashes; time-ordered."""

MessageId = NewType("MessageId", int)
"""Unique in the whole deployment and growing within a chat: ordering is by id."""

QueuedId = NewType("QueuedId", int)
"""A queued message; not the id that the message gets once it is promoted."""

UserId = NewType("UserId", str)
RunnerId = NewType("RunnerId", str)
"""One chatloop process: its instance name and a random suffix, new at each start."""

ToolCallId = NewType("ToolCallId", str)
"""As the provider gave it, or generated; unique within a chat."""

ProviderId = NewType("ProviderId", str)
"""A short name such as `anthropic`; the part before the slash of a model name."""

ModelName = NewType("ModelName", str)
"""`<provider>/<model id at the provider>`, such as `local/smollm2-135m-instruct`."""

# In Python `$` also matches before a newline at the end; the lookahead says the same everywhere.
UUID_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$(?!\n)"
SLUG_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$(?!\n)"
TOOL_NAME_PATTERN: Final = r"^[a-zA-Z0-9_-]{1,64}$(?!\n)"

Uuid = Annotated[str, msgspec.Meta(pattern=UUID_PATTERN)]
Slug = Annotated[str, msgspec.Meta(pattern=SLUG_PATTERN)]

_UUID = re.compile(UUID_PATTERN)


def is_chat_id(value: str) -> bool:
    """Say whether `value` has the shape of a chat id; not whether that chat exists."""
    return _UUID.fullmatch(value) is not None
