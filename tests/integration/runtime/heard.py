"""What arrived at a listener, to be waited for."""

from __future__ import annotations

import asyncio
import uuid
from typing import NamedTuple

from steersman_runtime.nats_client import NatsClient


class Message(NamedTuple):
    subject: str
    reply: str
    headers: bytes
    payload: bytes


class Heard:
    """A listener that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    def __call__(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        self.messages.put_nowait(Message(subject.decode(), reply.decode(), headers, payload))

    async def next(self) -> Message:
        async with asyncio.timeout(60):
            return await self.messages.get()

    async def payloads(self, count: int) -> list[bytes]:
        return [(await self.next()).payload for _ in range(count)]


def new_subject() -> str:
    """A subject of this test alone."""
    return f"test.{uuid.uuid4().hex}"


class Connection:
    """Tells when a client loses its server and has it again."""

    def __init__(self, client: NatsClient) -> None:
        self.lost = asyncio.Event()
        self.back = asyncio.Event()
        client.on_disconnect.append(self.lost.set)
        client.on_reconnect.append(self.back.set)
