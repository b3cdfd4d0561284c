from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from steersman_contracts.ids import ChatId
from steersman_tools.exclusive import ChatTurnstile

CHATS = [ChatId("a"), ChatId("b")]


class Watched:
    """Counts who is inside, and fails when an exclusive one has company."""

    def __init__(self) -> None:
        self.turnstile = ChatTurnstile()
        self.inside: dict[ChatId, list[bool]] = {chat: [] for chat in CHATS}
        self.entered: list[int] = []

    async def visit(self, number: int, chat: ChatId, *, exclusive: bool, turns: int) -> None:
        async with self.turnstile.enter(chat, exclusive=exclusive):
            inside = self.inside[chat]
            inside.append(exclusive)
            self.entered.append(number)
            try:
                for _ in range(turns):
                    assert len(inside) == 1 or not any(inside)
                    await asyncio.sleep(0)
            finally:
                inside.remove(exclusive)


@pytest.mark.parametrize("seed", range(50))
async def test_an_exclusive_visitor_is_alone_whoever_comes_and_gives_up(seed: int) -> None:
    chance = random.Random(seed)
    watched = Watched()
    tasks: list[asyncio.Task[None]] = []
    for number in range(30):
        visit = watched.visit(
            number,
            chance.choice(CHATS),
            exclusive=chance.random() < 0.4,
            turns=chance.randrange(4),
        )
        tasks.append(asyncio.create_task(visit))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()

    async with asyncio.timeout(30):
        results = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert len(watched.turnstile) == 0
    assert all(task.cancelled() or n in watched.entered for n, task in enumerate(tasks))


async def test_visitors_of_one_chat_enter_in_the_order_in_which_they_came() -> None:
    for kinds in itertools.product([True, False], repeat=5):
        watched = Watched()
        async with asyncio.TaskGroup() as group:
            for number, exclusive in enumerate(kinds):
                group.create_task(watched.visit(number, CHATS[0], exclusive=exclusive, turns=1))

        assert watched.entered == list(range(5))
