"""What a long history costs: turns with many earlier messages against turns with none."""

from __future__ import annotations

from typing import Final

from bench.chats import ChatClient, text_of
from bench.context import STAMPED, Bench
from bench.direct import Object
from bench.figures import TIMES, Budget, Row, Wrong, over_rounds, percentile, shown
from bench.seeding import add_history, message_text
from bench.stamped import COUNTED

_LENGTHS: Final = {0: None, 500: Budget(1.3, TIMES), 10_000: Budget(1.5, TIMES)}


async def measure(bench: Bench) -> list[Row]:
    """Turns of 200 tokens at full speed; the history is written straight into Postgres.

    The provider only counts the messages: what it costs to look into them is not ours.

    The first turn with a history, which reads it from the store, is told apart: the others find it
    in memory, as turns of a conversation do.
    """
    samples = max(4, bench.size.samples // 4)
    rounds = 2 if bench.size.quick else 3
    ours: dict[int, list[float]] = {length: [] for length in _LENGTHS}
    direct: dict[int, list[float]] = {length: [] for length in _LENGTHS}
    cold: dict[int, float] = {}
    chats: dict[int, ChatClient] = {}
    try:
        for length in _LENGTHS:
            chats[length] = await _chat(bench, length)
            cold[length] = await _turn(chats[length], length)
        for number in bench.rounds(rounds, within_s=24):
            for length, chat in chats.items():
                earlier = _earlier(length)
                # The SDK takes seconds to check 10,000 messages: once must do.
                if number == 0 or not length:
                    base = [
                        (await bench.direct_stamped.turn(COUNTED, None, messages=earlier)).total_s
                        for _ in range(1 if length else samples)
                    ]
                    direct[length].append(percentile(base, 0.5))
                took = [await _turn(chat, length) for _ in range(samples)]
                ours[length].append(percentile(took, 0.5))
    finally:
        for chat in chats.values():
            chat.close()
    return [
        _row(length, budget, ours, direct, cold, samples)
        for length, budget in _LENGTHS.items()
        if length
    ]


async def _turn(chat: ChatClient, earlier: int) -> float:
    turn = await chat.turn("Go on.", None)
    got = int(text_of(turn.messages[-1]).partition(" ")[0])
    if got <= earlier:
        raise Wrong(f"the provider got {got} messages of more than {earlier}")
    return turn.total_s


async def _chat(bench: Bench, length: int) -> ChatClient:
    deployment = await bench.deployment()
    chat = await ChatClient.create(deployment.facts.address, f"{STAMPED}/{COUNTED}")
    if length:
        database = await deployment.database()
        try:
            await add_history(database, chat.chat_id, length, f"{STAMPED}/{COUNTED}")
        finally:
            await database.close()
    return chat


def _earlier(length: int) -> list[Object]:
    roles = ("assistant", "user")
    said = [
        {"role": roles[number % 2], "content": message_text(number)}
        for number in range(1, length + 1)
    ]
    return [*said, {"role": "user", "content": "Go on."}]


def _row(
    length: int,
    budget: Budget | None,
    ours: dict[int, list[float]],
    direct: dict[int, list[float]],
    cold: dict[int, float],
    samples: int,
) -> Row:
    measured, base = over_rounds(ours[length]), over_rounds(ours[0])
    called = over_rounds(direct[length])
    return Row(
        scenario="history",
        what=f"turn with {length:,} earlier messages, to none",
        unit=TIMES,
        measured=over_rounds([a / b for a, b in zip(ours[length], ours[0], strict=True)]),
        baseline=over_rounds([called.median / over_rounds(direct[0]).median]),
        budget=budget,
        samples=samples * len(ours[length]),
        rounds=len(ours[length]),
        note=(
            f"{shown(measured.median * 1000)} ms with, {shown(base.median * 1000)} ms without; "
            f"{shown(cold[length] * 1000)} ms when it is first read; "
            f"the provider alone {shown(called.median * 1000)} ms"
        ),
    )
