"""A chat waits for its agent: how soon after the agent's last token it asks the model again."""

from __future__ import annotations

from bench.chats import Turn, text_of
from bench.context import STAMPED, Bench, expect
from bench.figures import Budget, Row, over_rounds, percentile
from bench.stamped import PARENT
from steersman_contracts.parts import JsonPart, ToolResultPart


async def measure(bench: Bench) -> list[Row]:
    """Both moments are those of the provider's own clock: the whole way there and back counts."""
    samples = bench.size.samples
    rounds: list[float] = []
    for _ in bench.rounds(bench.size.rounds, within_s=15):
        async with bench.chats(1, f"{STAMPED}/{PARENT}") as (chat,):
            await chat.turn("Delegate.", None)
            took = [_passed_ms(await chat.turn("Delegate.", None)) for _ in range(samples)]
        rounds.append(percentile(took, 0.5))
    return [
        Row(
            scenario="subagent",
            what="subagent: child done → parent's next request",
            unit="ms",
            measured=over_rounds(rounds),
            budget=Budget(20, "ms"),
            samples=samples * len(rounds),
            rounds=len(rounds),
            note="from the child's last token at the provider",
        )
    ]


def _passed_ms(turn: Turn) -> float:
    results = [p for m in turn.messages for p in m.parts if isinstance(p, ToolResultPart)]
    expect(len(results) == 2, f"a turn with an agent has {len(results)} results")
    told = results[1].content[0]
    expect(isinstance(told, JsonPart), f"the wait has failed: {told}")
    report: str = told.value["agents"][0]["report"] if isinstance(told, JsonPart) else ""
    return (float(text_of(turn.messages[-1])) - float(report.split()[-1])) * 1000
