"""A chat as a client drives it: one event stream, one connection for requests, and a check.

Every answer is held against what the provider said: streamed and stored text must be the same, and
what was expected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from bench.figures import Wrong
from bench.http import Address, Api, HttpProtocol, connect
from steersman_contracts.chats import Message, Role
from steersman_contracts.deltas import TextDelta
from steersman_contracts.events import (
    ChatErrored,
    ChatStatusChanged,
    MessageCreated,
    PartDelta,
)
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.chats import SendReply

_delta = msgspec.json.Decoder(PartDelta).decode
_created = msgspec.json.Decoder(MessageCreated).decode
_status = msgspec.json.Decoder(ChatStatusChanged).decode
_errored = msgspec.json.Decoder(ChatErrored).decode

_ATTACH_S: Final = 30.0


class Stream(HttpProtocol):
    """The events of one chat: calls `on_event(id, name, data)` for each."""

    def __init__(self, on_event: Callable[[bytes, bytes, bytes], None]) -> None:
        super().__init__()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.first_body_at = 0.0
        self._on_event = on_event
        self._rest = b""

    @classmethod
    async def open(
        cls,
        address: Address,
        chat_id: str,
        on_event: Callable[[bytes, bytes, bytes], None],
        *,
        cursor: str = "",
    ) -> Stream:
        stream = cls(on_event)
        await connect(address, lambda: stream)
        stream.send(address.head("GET", f"/api/v1/chats/{chat_id}/events", cursor=cursor))
        return stream

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.ended.done():
            self.ended.set_result(f"the event stream ended: {self._rest[:300].decode()}")

    def on_body(self, body: bytes) -> None:
        if not self.first_body_at:
            self.first_body_at = time.monotonic()
        buffer = self._rest + body if self._rest else body
        position = 0
        while (end := buffer.find(b"\n\n", position)) >= 0:
            self._frame(buffer, position, end)
            position = end + 2
        self._rest = buffer[position:]

    def _frame(self, buffer: bytes, start: int, end: int) -> None:
        # The gateway writes `id:` (not always), `event:`, `data:`, in this order.
        data_at = buffer.find(b"data: ", start, end)
        name_at = buffer.find(b"event: ", start, data_at)
        if data_at < 0 or name_at < 0:
            return  # a comment, or `retry:`
        event_id = buffer[start + 4 : name_at - 1] if name_at > start else b""
        self._on_event(event_id, buffer[name_at + 7 : data_at - 1], buffer[data_at + 6 : end])


class Turn:
    """One turn, as it was seen on the event stream. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self.sent_at = time.monotonic()
        self.first_at = 0.0
        self.done_at = 0.0
        self.arrivals: list[tuple[float, str]] = []
        """When each piece of text came."""
        self.attempts: list[float] = []
        """When the first delta of each attempt came."""
        self.messages: list[Message] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._episode: tuple[int, int] = (0, 0)
        self._seq = 0
        self._streamed: list[str] = []

    @property
    def first_s(self) -> float:
        return self.first_at - self.sent_at

    @property
    def total_s(self) -> float:
        return self.done_at - self.sent_at

    def on_delta(self, event: PartDelta) -> None:
        now = time.monotonic()
        episode = (event.history_version, event.attempt)
        if episode != self._episode:
            if episode < self._episode:
                return  # of an older attempt: to be ignored
            self._episode, self._seq, self._streamed = episode, 0, []
            self.attempts.append(now)
        if event.seq != self._seq + 1:
            self.fail(f"delta {event.seq} came after {self._seq}")
        self._seq = event.seq
        if not self.first_at:
            self.first_at = now
        for delta in event.deltas:
            if isinstance(delta, TextDelta):
                self._streamed.append(delta.text)
                self.arrivals.append((now, delta.text))

    def on_message(self, message: Message) -> None:
        if message.role is Role.ASSISTANT:
            streamed, self._streamed = "".join(self._streamed), []
            if streamed != text_of(message):
                self.fail(f"streamed {len(streamed)} characters, stored {len(text_of(message))}")
        self.messages.append(message)

    def on_end(self, outcome: str) -> None:
        self.done_at = time.monotonic()
        if outcome != "completed":
            self.fail(f"the turn ended with {outcome!r}")
        elif not self.ended.done():
            self.ended.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(Wrong(reason))


def text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


class ChatClient:
    """One chat and its client."""

    def __init__(self, address: Address, chat_id: str) -> None:
        self.address = address
        self.chat_id = chat_id
        self.api = Api(address)
        self.ids: list[bytes] = []
        """The ids of all events seen."""
        self._stream: Stream | None = None
        self._turn: Turn | None = None
        self._attached = asyncio.Event()

    @classmethod
    async def create(cls, address: Address, model: str) -> ChatClient:
        """Make a chat and watch it."""
        api = Api(address)
        reply = await api.call("POST", "/chats", SendReply, {"model": model})
        api.close()
        client = cls(address, reply.chat.id)
        await client.watch()
        return client

    async def watch(self) -> None:
        """Open the event stream, and wait until it is live."""
        self._stream = await Stream.open(self.address, self.chat_id, self._on_event)
        self._stream.ended.add_done_callback(self._on_stream_end)
        async with asyncio.timeout(_ATTACH_S):
            await self._attached.wait()
        if self._stream.transport is None:
            raise Wrong(self._stream.ended.result())
        await self.api.ready()

    def _on_stream_end(self, ended: asyncio.Future[str]) -> None:
        self._attached.set()
        if self._turn is not None:
            self._turn.fail(ended.result())

    def _on_event(self, event_id: bytes, name: bytes, data: bytes) -> None:
        self.ids.append(event_id)
        turn = self._turn
        if name == b"stream.sync":
            self._attached.set()
        elif turn is None:
            return
        elif name == b"part.delta":
            turn.on_delta(_delta(data))
        elif name == b"message.created":
            turn.on_message(_created(data).message)
        elif name == b"chat.status":
            if (outcome := _status(data).outcome) is not None:
                turn.on_end(outcome)
        elif name == b"chat.error":
            turn.fail(_errored(data).error.message)
        elif name == b"stream.gap":
            turn.fail("the event stream had a gap")

    @property
    def streams(self) -> bool:
        """Whether a turn is under way and something of it has arrived."""
        return self._turn is not None and self._turn.first_at > 0

    async def turn(self, text: str, expected: str | None, *, timeout_s: float = 60.0) -> Turn:
        """Send a message and follow the turn to its end.

        Args:
            text: The message.
            expected: What the last message of the answer must say; None for anything.
            timeout_s: For the whole turn.

        Raises:
            Wrong: It is not what was expected, or streamed and stored text differ.
        """
        await self.api.ready()
        turn = self._turn = Turn()
        path = f"/chats/{self.chat_id}/messages"
        try:
            async with asyncio.timeout(timeout_s):
                await self.api.call("POST", path, msgspec.Raw, {"text": text})
                await turn.ended
        except TimeoutError as error:
            said = "".join(text for _, text in turn.arrivals)
            raise Wrong(
                f"a turn did not end within {timeout_s:g} s; {len(said.split())} tokens came"
            ) from error
        finally:
            self._turn = None
        check(turn, expected)
        return turn

    def close(self) -> None:
        self.api.close()
        if self._stream is not None:
            self._stream.ended.remove_done_callback(self._on_stream_end)
            self._stream.close()


def check(turn: Turn, expected: str | None) -> None:
    """Hold the stored answer against what was expected."""
    said = text_of(turn.messages[-1]) if turn.messages else ""
    if expected is not None and said != expected:
        raise Wrong(f"the answer has {len(said.split())} tokens of {len(expected.split())}")
    if not said:
        raise Wrong("the answer is empty")
