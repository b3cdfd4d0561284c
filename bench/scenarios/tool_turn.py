"""A turn with a tool: model, tool, model."""

from __future__ import annotations

from typing import Final

import msgspec

from bench.chats import Turn, text_of
from bench.context import FAKE, TOOL, TOOL_MODEL, Bench, expect
from bench.figures import Budget, Row, over_rounds, percentile
from steersman_contracts.chats import Role
from steersman_contracts.parts import TextPart, ToolResultPart

_ASK: Final = msgspec.json.encode({"tool": TOOL, "arguments": {}}).decode()


async def measure(bench: Bench) -> list[Row]:
    """The tool lists an empty directory; called directly, a tool that takes no time."""
    samples = bench.size.samples
    ours: list[float] = []
    direct: list[float] = []
    for _ in bench.rounds(bench.size.rounds, within_s=12):
        base = [await bench.direct.tool_turn(TOOL_MODEL, TOOL) * 1000 for _ in range(samples)]
        direct.append(percentile(base, 0.5))
        async with bench.chats(1, f"{FAKE}/{TOOL_MODEL}") as (chat,):
            _check(await chat.turn(_ASK, None))
            took: list[float] = []
            for _ in range(samples):
                turn = await chat.turn(_ASK, None)
                _check(turn)
                took.append(turn.total_s * 1000)
        ours.append(percentile(took, 0.5))
    return [
        Row(
            scenario="tool",
            what="tool turn (model → tool → model)",
            unit="ms",
            measured=over_rounds(ours),
            baseline=over_rounds(direct),
            compared=over_rounds([a - b for a, b in zip(ours, direct, strict=True)]),
            compared_unit="ms added",
            budget=Budget(20, "ms"),
            samples=samples * len(ours),
            rounds=len(ours),
        )
    ]


def _check(turn: Turn) -> None:
    roles = [message.role for message in turn.messages]
    expect(
        roles == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT],
        f"the messages of a tool turn are {[role.value for role in roles]}",
    )
    result = turn.messages[2].parts[0]
    expect(isinstance(result, ToolResultPart) and not result.is_error, f"the tool failed: {result}")
    if isinstance(result, ToolResultPart):
        said = "".join(part.text for part in result.content if isinstance(part, TextPart))
        expect(said, "the tool said nothing")
        expect(said in text_of(turn.messages[3]), "the model did not see the tool's result")
