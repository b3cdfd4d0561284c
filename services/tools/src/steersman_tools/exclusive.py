"""Exclusive tools: never at the same time as another call of the same chat."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from steersman_contracts.ids import ChatId


class ChatTurnstile:
    """Lets the calls of a chat in together, and an exclusive one alone, in order of arrival."""

    def __init__(self) -> None:
        self._chats: dict[ChatId, _Turnstile] = {}

    @asynccontextmanager
    async def enter(self, chat_id: ChatId, *, exclusive: bool) -> AsyncGenerator[None]:
        """Wait for admission, and leave at the end of the block."""
        turnstile = self._chats.setdefault(chat_id, _Turnstile())
        try:
            await turnstile.enter(exclusive=exclusive)
            try:
                yield
            finally:
                turnstile.leave()
        finally:
            if turnstile.idle:
                self._chats.pop(chat_id, None)

    def is_open(self, chat_id: ChatId, *, exclusive: bool) -> bool:
        """Whether a call would be let in at once."""
        turnstile = self._chats.get(chat_id)
        return turnstile is None or turnstile.is_open(exclusive=exclusive)

    def __len__(self) -> int:
        return len(self._chats)


class _Turnstile:
    def __init__(self) -> None:
        self._inside = 0
        self._alone = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @property
    def idle(self) -> bool:
        return not self._inside and not self._waiting

    def is_open(self, *, exclusive: bool) -> bool:
        return not self._waiting and not self._alone and not (exclusive and self._inside)

    async def enter(self, *, exclusive: bool) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((exclusive, admitted))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # admitted in the same turn of the loop
                self.leave()
            else:
                with suppress(ValueError):
                    self._waiting.remove((exclusive, admitted))
                self._admit()
            raise

    def leave(self) -> None:
        self._inside -= 1
        self._alone = False
        self._admit()

    def _admit(self) -> None:
        while self._waiting and not self._alone:
            exclusive, admitted = self._waiting[0]
            if exclusive and self._inside:
                return
            self._waiting.popleft()
            if admitted.cancelled():  # its task was told to stop and has not run since
                continue
            self._inside += 1
            self._alone = exclusive
            admitted.set_result(None)
