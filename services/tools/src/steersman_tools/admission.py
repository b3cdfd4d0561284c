"""Who may begin: exclusive tools, limits of a tool, of a chat and of the whole host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.tools import ToolSpec
from steersman_tools.exclusive import ChatTurnstile


class Admission:
    """Lets calls begin, in the order in which they came."""

    def __init__(self, *, slots: int, per_chat: int) -> None:
        """Set the limits of the host.

        Args:
            slots: Calls at the same time.
            per_chat: Of those, of one chat.
        """
        self._slots = asyncio.Semaphore(slots)
        self._per_chat = per_chat
        self._turnstile = ChatTurnstile()
        self._limits = _Limits()

    def is_open(self, chat_id: ChatId, spec: ToolSpec) -> bool:
        """Whether a call could begin at this moment."""
        return (
            not self._slots.locked()
            and self._turnstile.is_open(chat_id, exclusive=spec.exclusive)
            and all(self._limits.is_open(key, most) for key, most in self._keys(chat_id, spec))
        )

    @asynccontextmanager
    async def enter(self, chat_id: ChatId, spec: ToolSpec) -> AsyncGenerator[None]:
        """Wait for admission, and leave at the end of the block."""
        # The chat first and the host last: who waits for its own kind must not hold a slot.
        async with AsyncExitStack() as stack:
            turn = self._turnstile.enter(chat_id, exclusive=spec.exclusive)
            await stack.enter_async_context(turn)
            for key, most in self._keys(chat_id, spec):
                await stack.enter_async_context(self._limits.enter(key, most))
            await stack.enter_async_context(self._slots)
            yield

    def _keys(self, chat_id: ChatId, spec: ToolSpec) -> list[tuple[Hashable, int]]:
        keys: list[tuple[Hashable, int]] = [(chat_id, self._per_chat)]
        if spec.max_per_chat is not None:
            keys.append(((chat_id, spec.name), spec.max_per_chat))
        if spec.max_concurrent is not None:
            keys.append((("tool", spec.name), spec.max_concurrent))
        return keys


class _Limits:
    """A semaphore for each key that is in use."""

    def __init__(self) -> None:
        self._used: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}

    def is_open(self, key: Hashable, most: int) -> bool:
        used = self._used.get(key)
        return most > 0 if used is None else not used[0].locked()

    @asynccontextmanager
    async def enter(self, key: Hashable, most: int) -> AsyncGenerator[None]:
        semaphore, users = self._used.get(key) or (asyncio.Semaphore(most), 0)
        self._used[key] = semaphore, users + 1
        try:
            async with semaphore:
                yield
        finally:
            semaphore, users = self._used.pop(key)
            if users > 1:
                self._used[key] = semaphore, users - 1

    def __len__(self) -> int:
        return len(self._used)
