"""What only providers and services may see leaves in no reply."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from steersman_contracts.chats import (
    Chat,
    ChatSnapshot,
    Message,
    PendingAction,
    QueuedMessage,
    Role,
    Status,
)
from steersman_contracts.ids import ChatId, MessageId, ModelName, QueuedId, UserId
from steersman_contracts.parts import FilePart, ProviderMetadata, TextPart, ToolCallPart
from steersman_contracts.rpc import Method, chats, desktop, files, identity, models, tools
from steersman_gateway.backend import presentable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = ProviderMetadata("anthropic", native="sesame")
PARTS = (
    TextPart("hi", SECRET),
    FilePart("image/png", file_id="f", data=b"sesame", provider_metadata=SECRET),
)
CALL = ToolCallPart("c", "look", {}, provider_metadata=SECRET)
CHAT = Chat(
    id=ChatId("01970000-0000-7000-8000-000000000001"),
    owner_id=UserId("u"),
    title="",
    model=ModelName("demo/plain"),
    status=Status.REQUIRES_ACTION,
    created_at=NOW,
    updated_at=NOW,
    snapshot_version=1,
    history_version=1,
    action=PendingAction((CALL,), NOW),
)
MESSAGE = Message(MessageId(1), Role.ASSISTANT, PARTS, 1, NOW)
QUEUED = QueuedMessage(QueuedId(1), PARTS, NOW)

REPLIES: dict[type, Any] = {
    chats.ChatReply: chats.ChatReply(CHAT),
    chats.ChatPage: chats.ChatPage((CHAT,)),
    chats.MessagePage: chats.MessagePage((MESSAGE, MESSAGE), has_more=True),
    chats.SendReply: chats.SendReply("queued", CHAT, MESSAGE, QUEUED),
    chats.SnapshotReply: chats.SnapshotReply(ChatSnapshot(CHAT, (MESSAGE,), queue=(QUEUED,)), NOW),
}


def methods() -> list[Method[Any, Any]]:
    """Every method that the gateway may call."""
    modules = (chats, desktop, files, identity, models, tools)
    return [
        found for module in modules for found in vars(module).values() if isinstance(found, Method)
    ]


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_every_reply_that_can_hold_provider_blocks_is_cleaned(method: Method[Any, Any]) -> None:
    _, schemas = msgspec.json.schema_components([method.reply])
    holds_blocks = "ProviderMetadata" in schemas and method.service == "store"
    assert holds_blocks == (method.reply in REPLIES)


@pytest.mark.parametrize("reply", REPLIES.values(), ids=lambda reply: type(reply).__name__)
def test_nothing_internal_is_left_and_nothing_else_is_gone(reply: Any) -> None:
    encoded = msgspec.json.encode(reply)
    assert b"provider_metadata" in encoded

    clean = msgspec.json.encode(presentable(reply))

    assert b"provider_metadata" not in clean
    assert b"sesame" not in clean
    assert b"c2VzYW1l" not in clean  # the same in base64
    assert _without_internal(msgspec.json.decode(encoded)) == msgspec.json.decode(clean)


def _without_internal(value: Any) -> Any:
    match value:
        case dict():
            pairs: Any = value.items()  # pyright: ignore[reportUnknownVariableType]  # any JSON
            hidden = {"provider_metadata", "data"}
            return {key: _without_internal(item) for key, item in pairs if key not in hidden}
        case list():
            items: Any = value  # pyright: ignore[reportUnknownVariableType]  # any JSON
            return [_without_internal(item) for item in items]
        case _:
            return value


def test_what_has_nothing_to_hide_stays_the_same_object() -> None:
    plain = msgspec.structs.replace(MESSAGE, parts=(TextPart("hi"),))

    assert presentable(chats.MessagePage((plain,))).messages[0] is plain
