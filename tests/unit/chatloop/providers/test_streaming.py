"""The shell around a stream: watchdog, order of the end, failures; and the pool of clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from steersman_chatloop.providers.base import ProviderFailed, StepEnded, StepEvent
from steersman_chatloop.providers.clients import ClientPool
from steersman_chatloop.providers.signals import StreamFault
from steersman_chatloop.providers.streaming import Limits, run
from steersman_contracts.chats import Usage
from steersman_contracts.deltas import TextDelta
from steersman_contracts.ids import ModelName
from steersman_contracts.rpc.worker import ModelAccess

ACCESS = ModelAccess(ModelName("p/m"), "openai-chat", "p", "m")


class Words:
    """A translator: "." finishes the answer, "!" completes it."""

    def __init__(self) -> None:
        self.finished = False
        self.complete = False
        self.response_id = ""

    def feed(self, event: str, /) -> Sequence[StepEvent]:
        self.finished = self.finished or event in ".!"
        self.complete = event == "!"
        return (TextDelta(0, event),)

    def end(self) -> Sequence[StepEvent]:
        if not self.finished:
            raise StreamFault("truncated")
        return (StepEnded("end"),)

    def used(self) -> Usage | None:
        return None


class Source:
    """Yields words; an exception is raised, None waits for good."""

    def __init__(self, *items: str | Exception | None) -> None:
        self._items = items
        self.closed = False
        self.waiting = asyncio.Event()

    async def events(self) -> AsyncGenerator[list[str]]:
        try:
            for item in self._items:
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    self.waiting.set()
                    await asyncio.Event().wait()
                else:
                    yield [item]
        finally:
            self.closed = True


async def texts(source: Source, limits: Limits | None = None) -> list[str]:
    async with aclosing(run(source.events(), Words(), ACCESS, limits or Limits())) as events:
        return [event.text if isinstance(event, TextDelta) else "end" async for event in events]


async def test_the_end_comes_last_and_the_source_is_closed() -> None:
    source = Source("a", "b", ".")
    assert await texts(source) == ["a", "b", ".", "end"]
    assert source.closed


async def test_what_follows_the_end_is_read_but_not_passed_on() -> None:
    source = Source("a", "!", "more")
    assert await texts(source) == ["a", "!", "end"]


async def test_a_server_that_never_closes_does_not_hold_up_the_end() -> None:
    source = Source("a", "!", None)
    async with asyncio.timeout(30):
        assert await texts(source) == ["a", "!", "end"]
    assert source.closed


@pytest.mark.parametrize("item", [ConnectionResetError("gone"), StreamFault("overloaded")])
async def test_a_failure_after_the_answer_is_whole_does_not_matter(item: Exception) -> None:
    assert await texts(Source("a", ".", item)) == ["a", ".", "end"]
    assert await texts(Source("a", "!", item)) == ["a", "!", "end"]


async def test_a_failure_before_that_is_classified() -> None:
    with pytest.raises(ProviderFailed) as caught:
        await texts(Source("a", ConnectionResetError("gone")))
    assert caught.value.error.kind == "timeout"
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    with pytest.raises(ProviderFailed, match="lost before"):
        await texts(Source("a"))


@pytest.mark.parametrize("items", [(None,), ("a", "b", None)])
async def test_silence_is_a_failure_and_closes_the_source(items: tuple[str | None, ...]) -> None:
    source = Source(*items)
    with pytest.raises(ProviderFailed) as caught:
        await texts(source, Limits(first_event_s=0.01, idle_s=0.01))
    assert (caught.value.error.kind, caught.value.error.retryable) == ("timeout", True)
    assert source.closed
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_slow_consumer_is_no_silence() -> None:
    source = Source("a", "b", ".")
    found: list[StepEvent] = []
    async with aclosing(run(source.events(), Words(), ACCESS, Limits(0.02, 0.02))) as events:
        async for event in events:
            found.append(event)
            await asyncio.sleep(0.03)  # longer than the limit, which is the point
    assert len(found) == 4


async def test_cancelling_from_outside_stays_a_cancellation() -> None:
    source = Source("a", None)
    task = asyncio.create_task(texts(source, Limits(60, 60)))
    await source.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed


async def test_the_generator_can_be_closed_from_another_task() -> None:
    source = Source("a", "b", ".")
    events = run(source.events(), Words(), ACCESS, Limits())
    assert await anext(events) == TextDelta(0, "a")
    await asyncio.create_task(events.aclose())
    assert source.closed


def access(key: str) -> ModelAccess:
    return ModelAccess(ModelName("p/m"), "openai-chat", "p", "m", api_key=key)


async def test_clients_are_shared_and_the_oldest_idle_ones_are_closed() -> None:
    built: list[str | None] = []
    closed: list[str | None] = []

    def build(access: ModelAccess) -> str | None:
        built.append(access.api_key)
        return access.api_key

    async def close(client: str | None) -> None:
        closed.append(client)

    pool = ClientPool(build, close, max_idle=2)
    async with pool.lease(access("a")) as first, pool.lease(access("a")) as second:
        assert first is second
        for key in ("b", "c", "d"):
            async with pool.lease(access(key)):
                pass
        assert built == ["a", "b", "c", "d"]
        assert closed == ["b", "c"], "not `a`, which is in use"
    async with pool.lease(access("d")):
        pass
    assert len(pool) == 2
    await pool.aclose()
    assert sorted(str(client) for client in closed) == ["a", "b", "c", "d"]
