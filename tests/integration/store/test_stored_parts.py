"""Whatever a worker commits comes back as it was: through RPC, PostgreSQL and RPC again."""

from __future__ import annotations

import asyncio
from functools import reduce
from typing import Any

from contract.contracts.structs import instances
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.chat_driver import StoreDriver

from steersman_contracts.chats import Role
from steersman_contracts.ids import MessageId, RunnerId
from steersman_contracts.parts import (
    JsonPart,
    Part,
    Parts,
    ProviderMetadata,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    strip_internal,
)
from steersman_contracts.rpc import worker as work

any_parts: st.SearchStrategy[Parts] = st.lists(instances(Part), max_size=6).map(tuple)
MARKS = "a\0b \\u0000 \\ \ud7ff\ue000\uffff\U0001f600 \u202e \x1b[0m"
DEEP: Any = reduce(lambda inner, _: {"\0": [inner]}, range(150), "the end")
NATIVE = ProviderMetadata("anthropic", account="a", native={"signature": MARKS, "deep": DEEP})


class History:
    """One chat whose worker commits and reads back."""

    def __init__(self, store: StoreDriver) -> None:
        self._store = store
        self._fence: work.Fence | None = None
        self._seen = (0, 0)

    async def through(self, parts: Parts) -> None:
        """Commit a step, and compare what a worker and a person then read."""
        if self._fence is None:
            chat = await self._store.create("hello")
            context = await self._store.acquire(chat.id)
            self._seen = (context.messages[-1].revision, context.messages[-1].id)
            self._fence = await self._store.fence(chat.id)
        fence = self._fence
        committed = await self._store.commit(fence, work.NewMessage(Role.ASSISTANT, parts))
        chat = committed.chat
        self._fence = work.Fence(chat.chat_id, fence.runner_id, chat.history_version, chat.status)
        request = work.LoadHistory(chat.chat_id, RunnerId(fence.runner_id), self._seen)
        (loaded,) = (await self._store.rpc.call(work.LOAD_HISTORY, request)).messages
        self._seen = (loaded.revision, loaded.id)
        (shown,) = await self._store.messages(chat.chat_id, after_id=MessageId(loaded.id - 1))

        assert committed.messages == (loaded,)
        assert loaded.parts == parts
        assert shown.parts == strip_internal(parts)


async def test_any_parts_are_stored_and_loaded_as_they_were(store: StoreDriver) -> None:
    loop = asyncio.get_running_loop()
    history = History(store)

    @settings(max_examples=60)
    @given(any_parts)
    @example(())
    @example((TextPart(""), ReasoningPart(MARKS, NATIVE)))
    @example((TextPart("\0" * 50_000), TextPart("w\u00f6rter " * 40_000)))
    @example((ToolCallPart(MARKS, MARKS, {MARKS: DEEP}, provider_metadata=NATIVE),))
    @example((ToolResultPart("c", "t", (JsonPart(DEEP), TextPart(MARKS, NATIVE))),))
    def check(parts: Parts) -> None:
        # Examples are made in a thread of their own; what is asked runs in the test's loop.
        asyncio.run_coroutine_threadsafe(history.through(parts), loop).result(120)

    await asyncio.to_thread(check)
