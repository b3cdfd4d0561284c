"""A chat waits for its agent: how soon after the agent's last token it asks the model again.

The same with a model that looks again and again instead: what waiting by event saves.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.chats import Turn, text_of
from bench.context import STAMPED, Bench, expect
from bench.figures import TIMES, Budget, Figure, Row, over_rounds, percentile
from bench.processes import Cpu
from bench.stamped import PARENT, POLL_S, POLLER
from steersman_contracts.parts import JsonPart, ToolResultPart


class _Round(NamedTuple):
    """What one way to learn of an agent's end came to."""

    took_ms: float
    """The median of the time until the parent's next request."""
    cpu: Cpu


async def measure(bench: Bench) -> list[Row]:
    """Both moments are those of the provider's own clock: the whole way there and back counts."""
    waits: list[_Round] = []
    polls: list[_Round] = []
    for _ in bench.rounds(bench.size.rounds, within_s=30):
        waits.append(await _delegations(bench, PARENT))
        polls.append(await _delegations(bench, POLLER))
    samples = bench.size.samples
    per = samples + 1
    costs = [[one.cpu.total_s * 1000 / per for one in rounds] for rounds in (waits, polls)]
    parts = waits[-1].cpu.per(per, scale=1000)
    return [
        Row(
            scenario="subagent",
            what="subagent: child done → parent's next request",
            unit="ms",
            measured=over_rounds([one.took_ms for one in waits]),
            budget=Budget(20, "ms"),
            samples=samples * len(waits),
            rounds=len(waits),
            note="from the child's last token at the provider",
        ),
        Row(
            scenario="subagent",
            what=f"the same, against a model that looks every {POLL_S * 1000:.0f} ms",
            unit="ms",
            measured=over_rounds([one.took_ms for one in waits]),
            baseline=over_rounds([one.took_ms for one in polls]),
            compared=_ratio([(w.took_ms, p.took_ms) for w, p in zip(waits, polls, strict=True)]),
            compared_unit=TIMES,
            samples=samples * len(waits),
            rounds=len(waits),
            note="baseline: it polls",
        ),
        Row(
            scenario="subagent",
            what="CPU per agent that is spawned and waited for",
            unit="ms",
            measured=over_rounds(costs[0]),
            baseline=over_rounds(costs[1]),
            compared=_ratio(list(zip(*costs, strict=True))),
            compared_unit=TIMES,
            samples=per * len(waits),
            rounds=len(waits),
            note="baseline: it polls; "
            + ", ".join(
                f"{name} {parts[name]:.1f}" for name in sorted(parts, key=lambda n: -parts[n])
            ),
            details={"by_service_ms": parts},
        ),
    ]


def _ratio(pairs: list[tuple[float, float]]) -> Figure:
    return over_rounds([ours / theirs for ours, theirs in pairs])


async def _delegations(bench: Bench, model: str) -> _Round:
    deployment = await bench.deployment()
    async with bench.chats(1, f"{STAMPED}/{model}") as (chat,):
        before = deployment.cpu()
        await chat.turn("Delegate.", None)
        took = [_passed_ms(await chat.turn("Delegate.", None)) for _ in range(bench.size.samples)]
        return _Round(percentile(took, 0.5), deployment.cpu().since(before))


def _passed_ms(turn: Turn) -> float:
    results = [p for m in turn.messages for p in m.parts if isinstance(p, ToolResultPart)]
    expect(len(results) >= 2, f"a turn with an agent has {len(results)} results")
    told = results[-1].content[0]
    expect(isinstance(told, JsonPart), f"the wait has failed: {told}")
    report: str = told.value["agents"][0]["report"] if isinstance(told, JsonPart) else ""
    return (float(text_of(turn.messages[-1])) - float(report.split()[-1])) * 1000
