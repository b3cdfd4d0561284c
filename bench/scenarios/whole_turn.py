"""A whole turn of 200 tokens at full speed: from sending a message to the end of the turn."""

from __future__ import annotations

from typing import Final

from bench.context import FAKE, Bench
from bench.figures import Budget, Row, over_rounds, percentile
from bench.providers import words

_MODEL: Final = "tokens-200"
_TEXT: Final = words(200)


async def measure(bench: Bench) -> list[Row]:
    """One chat, a new one in each round."""
    samples = bench.size.samples
    ours: list[float] = []
    direct: list[float] = []
    for _ in bench.rounds(bench.size.rounds, within_s=12):
        base = [(await bench.direct.turn(_MODEL, _TEXT)).total_s * 1000 for _ in range(samples)]
        async with bench.chats(1, f"{FAKE}/{_MODEL}") as (chat,):
            await chat.turn("Begin.", _TEXT)
            whole = [(await chat.turn("Go on.", _TEXT)).total_s * 1000 for _ in range(samples)]
        direct.append(percentile(base, 0.5))
        ours.append(percentile(whole, 0.5))
    return [
        Row(
            scenario="turn",
            what="whole turn of 200 tokens at full speed",
            unit="ms",
            measured=over_rounds(ours),
            baseline=over_rounds(direct),
            compared=over_rounds([a - b for a, b in zip(ours, direct, strict=True)]),
            compared_unit="ms added",
            budget=Budget(18, "ms"),
            samples=samples * len(ours),
            rounds=len(ours),
        )
    ]
