"""Work hints, as a chatloop pulls them."""

from __future__ import annotations

import asyncio

from steersman_contracts import subjects
from steersman_contracts.ids import ChatId
from steersman_runtime.jetstream import PullConsumer
from steersman_runtime.nats_client import NatsClient


async def hints(client: NatsClient, count: int) -> list[ChatId]:
    """The next hints, and no more: one that nobody reads comes again after seconds only."""
    found: asyncio.Queue[ChatId] = asyncio.Queue()
    left = count

    async def on_message(subject: str) -> None:
        nonlocal left
        left -= 1
        found.put_nowait(subjects.chat_of(subject))

    consumer = PullConsumer(
        client,
        subjects.WORK_STREAM,
        subjects.WORK_CONSUMER,
        on_message=on_message,
        free=lambda: min(left, 1),
    )
    task = asyncio.create_task(consumer.run())
    try:
        async with asyncio.timeout(60):
            return [await found.get() for _ in range(count)]
    finally:
        task.cancel()
