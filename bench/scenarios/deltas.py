"""How long a token travels: from the provider's socket to the client of the event stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from bench.context import STAMPED, Bench, expect, gather
from bench.direct import DirectTurn
from bench.figures import Budget, Row, over_rounds, percentile

# 40 ms apart: further than the 25 ms within which deltas are joined.
_MODEL: Final = "stamped-60-at-25"
_COUNT: Final = 60
_CHATS: Final = 8


async def measure(bench: Bench) -> list[Row]:
    """Eight chats, staggered. Tokens that were joined after all, and first ones, do not count."""
    ours: list[list[float]] = []
    direct: list[list[float]] = []
    rounds = 1 if bench.size.quick else 3
    joined = 0
    async with bench.chats(_CHATS, f"{STAMPED}/{_MODEL}") as chats:
        for _ in bench.rounds(rounds, within_s=20):
            turns = await gather(_direct(bench, number) for number in range(_CHATS))
            direct.append([ms for turn in turns for ms in travels(turn.arrivals)])

            async def ask(number: int) -> Sequence[tuple[float, str]]:
                await asyncio.sleep(number * 0.005)
                return (await chats[number].turn("Go on.", None)).arrivals

            arrivals = await gather(ask(number) for number in range(_CHATS))
            ours.append([ms for arrived in arrivals for ms in travels(arrived)])
            joined += sum(_COUNT - 1 - len(travels(arrived)) for arrived in arrivals)
    return [
        _row("p50", 0.50, ours, direct, joined, Budget(3, "ms")),
        _row("p99", 0.99, ours, direct, joined, Budget(20, "ms")),
    ]


async def _direct(bench: Bench, number: int) -> DirectTurn:
    await asyncio.sleep(number * 0.005)
    return await bench.direct_stamped.turn(_MODEL, None)


def travels(arrivals: Sequence[tuple[float, str]]) -> list[float]:
    """Milliseconds on the way, of each token but the first that arrived alone."""
    stamps = [(at, text.split()) for at, text in arrivals]
    expect(sum(len(found) for _, found in stamps) == _COUNT, "stamped tokens are missing")
    return [(at - float(found[0])) * 1000 for at, found in stamps[1:] if len(found) == 1]


def _row(
    name: str,
    q: float,
    ours: list[list[float]],
    direct: list[list[float]],
    joined: int,
    budget: Budget,
) -> Row:
    return Row(
        scenario="delta",
        what=f"delta, provider socket → SSE client, {name}",
        unit="ms",
        measured=over_rounds([percentile(round_, q) for round_ in ours]),
        baseline=over_rounds([percentile(round_, q) for round_ in direct]),
        budget=budget,
        samples=sum(map(len, ours)),
        rounds=len(ours),
        note=f"{joined} joined tokens left out" if joined else "",
    )
