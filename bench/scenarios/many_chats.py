"""Many chats at once, at full speed and paced: what arrives, how late, and what it costs."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final, NamedTuple

from bench import processes
from bench.context import FAKE, Bench, gather
from bench.figures import TIMES, Budget, Row, over_rounds, percentile
from bench.processes import Cpu
from bench.providers import words

_TOKENS: Final = 200
_RATE: Final = 50
_SETTLE_S: Final = 0.3


class Load(NamedTuple):
    """What one round of many chats came to."""

    seconds: float
    turns: list[float]
    cpu: Cpu
    client_cpu_s: float
    provider_cpu_s: float

    @property
    def middle_turn_s(self) -> float:
        return percentile(self.turns, 0.5)


async def drive(bench: Bench, *, chats: int, model: str, tokens: int, turns: int) -> Load:
    """Let each of many new chats take its turns, one after the other."""
    deployment = await bench.deployment()
    text = words(tokens)
    async with bench.chats(chats, f"{FAKE}/{model}") as clients:
        await asyncio.sleep(_SETTLE_S)  # what making them has caused shall not count
        took: list[float] = []

        async def run(number: int) -> None:
            for _ in range(turns):
                turn = await clients[number].turn("Go on.", text, timeout_s=120)
                took.append(turn.total_s)

        cpu, ours = deployment.cpu(), processes.cpu_s(os.getpid())
        provider = _provider_cpu_s(bench)
        began = time.monotonic()
        await gather(run(number) for number in range(chats))
        seconds = time.monotonic() - began
        await asyncio.sleep(_SETTLE_S)  # and what the turns have left to do, shall
        return Load(
            seconds,
            took,
            deployment.cpu().since(cpu),
            processes.cpu_s(os.getpid()) - ours,
            _provider_cpu_s(bench) - provider,
        )


def _provider_cpu_s(bench: Bench) -> float:
    return sum(processes.cpu_s(pid) for pid in bench.providers.pids)


async def drive_direct(
    bench: Bench, *, chats: int, model: str, tokens: int, turns: int
) -> tuple[float, list[float]]:
    """The same number of completions at once, by the SDK; seconds, and those of each."""
    text = words(tokens)

    async def run() -> list[float]:
        return [(await bench.direct.turn(model, text)).total_s for _ in range(turns)]

    began = time.monotonic()
    took = await gather(run() for _ in range(chats))
    return time.monotonic() - began, [seconds for each in took for seconds in each]


async def at_full_speed(bench: Bench) -> list[Row]:
    """64 chats at full speed."""
    chats, turns = 64, bench.size.turns
    rounds = 1 if bench.size.quick else 3
    loads: list[Load] = []
    direct: list[float] = []
    sent = chats * turns * _TOKENS
    for _ in bench.rounds(rounds, within_s=36):
        seconds, _each = await drive_direct(
            bench, chats=chats, model="tokens-200", tokens=_TOKENS, turns=1
        )
        direct.append(chats * _TOKENS / seconds)
        loads.append(
            await drive(bench, chats=chats, model="tokens-200", tokens=_TOKENS, turns=turns)
        )
    return [
        Row(
            scenario="full",
            what="tokens per second, 64 chats at full speed",
            unit="tokens/s",
            measured=over_rounds([sent / load.seconds for load in loads]),
            baseline=over_rounds(direct),
            budget=Budget(12_000, "tokens/s", at_least=True),
            samples=chats * turns * len(loads),
            rounds=len(loads),
            note="client, provider and system share the cores",
        ),
        cpu_row("full", "64 chats at full speed", loads, sent, Budget(0.12, "s")),
    ]


def cpu_row(scenario: str, what: str, loads: list[Load], sent: int, budget: Budget | None) -> Row:
    """CPU per 1,000 tokens, with its parts by service."""
    per = [load.cpu.total_s * 1000 / sent for load in loads]
    middle = loads[per.index(sorted(per)[len(per) // 2])]
    parts = middle.cpu.per(sent, scale=1000)
    return Row(
        scenario=scenario,
        what=f"CPU per 1,000 tokens, {what}",
        unit="s",
        measured=over_rounds(per),
        budget=budget,
        samples=sent * len(loads),
        rounds=len(loads),
        note=", ".join(
            f"{name} {parts[name]:.3f}" for name in sorted(parts, key=lambda n: -parts[n])
        ),
        details={
            "by_service_s": parts,
            "client_s": round(middle.client_cpu_s * 1000 / sent, 4),
            "provider_s": round(middle.provider_cpu_s * 1000 / sent, 4),
        },
    )


async def _paced(bench: Bench, scenario: str, chats: int) -> tuple[Row, list[Load]]:
    """Turns against ideal: how much longer they take than the provider itself."""
    tokens = 100 if bench.size.quick else _TOKENS
    model = f"tokens-{tokens}-at-{_RATE}"
    ideal_s = (tokens - 1) / _RATE
    rounds = 1 if bench.size.quick else 3
    loads: list[Load] = []
    direct: list[float] = []
    for _ in bench.rounds(rounds, within_s=36):
        # For the SDK 256 streams are too many for one core; once is enough to see that.
        if chats <= 64 or not direct:
            _, each = await drive_direct(bench, chats=chats, model=model, tokens=tokens, turns=1)
            direct.append(percentile(each, 0.5) / ideal_s)
        loads.append(await drive(bench, chats=chats, model=model, tokens=tokens, turns=1))
    slowest_s = max(max(load.turns) for load in loads)
    row = Row(
        scenario=scenario,
        what=f"turn, {chats} chats at {_RATE} tokens/s each, to ideal",
        unit=TIMES,
        measured=over_rounds([load.middle_turn_s / ideal_s for load in loads]),
        baseline=over_rounds(direct),
        budget=Budget(1.03 if chats == 64 else 1.3, TIMES),
        samples=chats * len(loads),
        rounds=len(loads),
        note=f"{tokens} tokens; slowest turn {slowest_s / ideal_s:.2f} {TIMES}",
    )
    return row, loads


async def paced_64(bench: Bench) -> list[Row]:
    """64 chats at 50 tokens per second."""
    turn, loads = await _paced(bench, "paced64", 64)
    sent = 64 * (100 if bench.size.quick else _TOKENS)
    return [turn, cpu_row("paced64", "64 chats at 50 tokens/s", loads, sent, Budget(0.25, "s"))]


async def paced_256(bench: Bench) -> list[Row]:
    """256 chats at 50 tokens per second: 12,800 offered."""
    turn, loads = await _paced(bench, "paced256", 256)
    sent = 256 * (100 if bench.size.quick else _TOKENS)
    delivered = Row(
        scenario="paced256",
        what="tokens per second, 256 chats at 50 tokens/s each",
        unit="tokens/s",
        measured=over_rounds([sent / load.seconds for load in loads]),
        budget=Budget(10_000, "tokens/s", at_least=True),
        samples=sent * len(loads),
        rounds=len(loads),
        note="12,800 offered; from the first request to the last end",
    )
    return [delivered, turn, cpu_row("paced256", "256 chats at 50 tokens/s", loads, sent, None)]
