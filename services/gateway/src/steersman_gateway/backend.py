"""The services behind the gateway; and the one place where what must not leave is removed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

import msgspec
from litestar.di import NamedDependency

from steersman_contracts.chats import Chat, ChatSnapshot, Message, QueuedMessage
from steersman_contracts.parts import strip_internal
from steersman_contracts.rpc import Method
from steersman_contracts.rpc.chats import (
    ChatPage,
    ChatReply,
    MessagePage,
    SendReply,
    SnapshotReply,
)
from steersman_runtime.rpc import RpcClient

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)
M = TypeVar("M", Message, QueuedMessage)


class Backend:
    """Calls other services for the gateway. Replies can be shown to clients as they are."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc

    async def call(self, method: Method[Q, R], request: Q) -> R:
        """Call a method; raises what the service raises."""
        return presentable(await self._rpc.call(method, request))


Services: TypeAlias = NamedDependency[Backend]


def presentable(reply: R) -> R:
    """Remove provider blocks and inline bytes from every message and chat in a reply."""
    clean: Any = reply
    match clean:
        case ChatReply():
            clean = msgspec.structs.replace(clean, chat=_chat(clean.chat))
        case ChatPage():
            clean = msgspec.structs.replace(clean, chats=tuple(map(_chat, clean.chats)))
        case MessagePage():
            clean = msgspec.structs.replace(clean, messages=_all(clean.messages))
        case SendReply():
            clean = msgspec.structs.replace(
                clean,
                chat=_chat(clean.chat),
                message=None if clean.message is None else _one(clean.message),
                queued=None if clean.queued is None else _one(clean.queued),
            )
        case SnapshotReply():
            clean = msgspec.structs.replace(clean, snapshot=_snapshot(clean.snapshot))
        case _:
            pass
    return clean


def _snapshot(snapshot: ChatSnapshot) -> ChatSnapshot:
    return msgspec.structs.replace(
        snapshot,
        chat=_chat(snapshot.chat),
        messages=_all(snapshot.messages),
        queue=_all(snapshot.queue),
    )


def _chat(chat: Chat) -> Chat:
    if chat.action is None:
        return chat
    calls = strip_internal(chat.action.calls)
    return msgspec.structs.replace(chat, action=msgspec.structs.replace(chat.action, calls=calls))


def _all(messages: Iterable[M]) -> tuple[M, ...]:
    return tuple(_one(message) for message in messages)


def _one(message: M) -> M:
    parts = strip_internal(message.parts)
    return message if parts is message.parts else msgspec.structs.replace(message, parts=parts)
