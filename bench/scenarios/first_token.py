"""Time to first token: from sending a message to the first delta on the event stream."""

from __future__ import annotations

from typing import Final

from bench.context import FAKE, Bench
from bench.figures import Budget, Row, over_rounds, percentile
from bench.providers import words

# Paced, so that the first token is alone on its way and not the head of a whole answer.
_MODEL: Final = "tokens-10-at-200"
_TEXT: Final = words(10)


async def measure(bench: Bench) -> list[Row]:
    """One chat, a new message in the existing chat; a new chat in each round."""
    samples = bench.size.samples
    ours: list[list[float]] = []
    direct: list[list[float]] = []
    for _ in bench.rounds(bench.size.rounds, within_s=20):
        direct.append(
            [(await bench.direct.turn(_MODEL, _TEXT)).first_s * 1000 for _ in range(samples)]
        )
        async with bench.chats(1, f"{FAKE}/{_MODEL}") as (chat,):
            await chat.turn("Begin.", _TEXT)
            ours.append([(await chat.turn("Go on.", _TEXT)).first_s * 1000 for _ in range(samples)])
    return [
        _row("p50", 0.50, ours, direct, Budget(12, "ms")),
        _row("p95", 0.95, ours, direct, Budget(30, "ms")),
    ]


def _row(
    name: str, q: float, ours: list[list[float]], direct: list[list[float]], budget: Budget
) -> Row:
    # Over the median of the baseline in both rows: its own slow requests excuse nothing.
    base = [percentile(round_, 0.5) for round_ in direct]
    measured = over_rounds([percentile(round_, q) for round_ in ours])
    added = [percentile(round_, q) - base[at] for at, round_ in enumerate(ours)]
    return Row(
        scenario="ttft",
        what=f"time to first token, {name}",
        unit="ms",
        measured=measured,
        baseline=over_rounds(base),
        compared=over_rounds(added),
        compared_unit="ms added",
        budget=budget,
        samples=sum(map(len, ours)),
        rounds=len(ours),
        details={"ms": _rounded(ours), "direct_ms": _rounded(direct)},
    )


def _rounded(rounds: list[list[float]]) -> list[list[float]]:
    return [[round(value, 2) for value in values] for values in rounds]
