"""Short turns: what a turn costs, whatever is said in it."""

from __future__ import annotations

from typing import Final

from bench.context import Bench
from bench.figures import Budget, Row, over_rounds
from bench.scenarios.many_chats import Load, drive, drive_direct

_CHATS: Final = 64
_TOKENS: Final = 20


async def measure(bench: Bench) -> list[Row]:
    """64 chats, each one turn of 20 tokens after the other."""
    turns = 3 if bench.size.quick else 6
    rounds = 1 if bench.size.quick else 3
    loads: list[Load] = []
    direct: list[float] = []
    count = _CHATS * turns
    for _ in bench.rounds(rounds, within_s=24):
        seconds, each = await drive_direct(
            bench, chats=_CHATS, model="tokens-20", tokens=_TOKENS, turns=turns
        )
        direct.append(len(each) / seconds)
        loads.append(
            await drive(bench, chats=_CHATS, model="tokens-20", tokens=_TOKENS, turns=turns)
        )
    per = [load.cpu.total_s * 1000 / count for load in loads]
    middle = loads[per.index(sorted(per)[len(per) // 2])]
    parts = middle.cpu.per(count, scale=1000)
    return [
        Row(
            scenario="short",
            what="turns of 20 tokens per second, 64 chats",
            unit="turns/s",
            measured=over_rounds([count / load.seconds for load in loads]),
            baseline=over_rounds(direct),
            budget=Budget(120, "turns/s", at_least=True),
            samples=count * len(loads),
            rounds=len(loads),
        ),
        Row(
            scenario="short",
            what="CPU per turn of 20 tokens, 64 chats",
            unit="ms",
            measured=over_rounds(per),
            budget=Budget(12, "ms"),
            samples=count * len(loads),
            rounds=len(loads),
            note=", ".join(
                f"{name} {parts[name]:.1f}" for name in sorted(parts, key=lambda n: -parts[n])
            ),
            details={
                "by_service_ms": parts,
                "client_ms": round(middle.client_cpu_s * 1000 / count, 3),
                "provider_ms": round(middle.provider_cpu_s * 1000 / count, 3),
            },
        ),
    ]
