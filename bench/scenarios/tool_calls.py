"""Tool calls alone: chatloop → tools → chatloop, by the chatloop's own code and rights."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from bench.context import Bench, expect
from bench.figures import Budget, Row, over_rounds, percentile
from bench.noop import BOOKED, UNBOOKED
from steersman_chatloop.toolbox import Toolbox
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.subjects import inbox
from steersman_runtime.nats_client import close, connect
from steersman_runtime.rpc import RpcClient

_AT_ONCE: Final = 100
_CHATS: Final = 10
"""The calls at once are of so many chats: one chat may have 16 at a time."""


async def measure(bench: Bench) -> list[Row]:
    """A tool that takes no time; the time is that of the way there and back."""
    samples = bench.size.samples * 5
    one: dict[str, list[float]] = {BOOKED: [], UNBOOKED: []}
    many: list[float] = []
    async with _toolbox(bench) as toolbox:
        await _calls(toolbox, BOOKED, 1)
        for _ in bench.rounds(bench.size.rounds, within_s=12):
            for tool, medians in one.items():
                took = [await _calls(toolbox, tool, 1) for _ in range(samples)]
                medians.append(percentile(took, 0.5))
            began = time.perf_counter()
            await asyncio.gather(
                *(_calls(toolbox, BOOKED, _AT_ONCE // _CHATS) for _ in range(_CHATS))
            )
            many.append((time.perf_counter() - began) * 1000)
    return [
        Row(
            scenario="calls",
            what=f"tool call, p50: {what}",
            unit="ms",
            measured=over_rounds(one[tool]),
            budget=Budget(4, "ms"),
            samples=samples * len(one[tool]),
            rounds=len(one[tool]),
        )
        for what, tool in (("booked", BOOKED), ("read-only", UNBOOKED))
    ] + [
        Row(
            scenario="calls",
            what=f"{_AT_ONCE} tool calls at once, until the last one",
            unit="ms",
            measured=over_rounds(many),
            samples=_AT_ONCE * len(many),
            rounds=len(many),
        )
    ]


@asynccontextmanager
async def _toolbox(bench: Bench) -> AsyncGenerator[Toolbox]:
    await bench.deployment()
    secrets = bench.directory / "data" / "secrets"
    server = urlsplit((secrets / "toolhost-nats-url").read_text().strip())
    password = (secrets / "nats-chatloop").read_text().strip()
    client = await connect(
        f"nats://chatloop:{password}@{server.hostname}:{server.port}",
        name="bench",
        inbox_prefix=inbox("chatloop"),
        on_closed=lambda: None,
    )
    try:
        yield Toolbox(RpcClient(client))
    finally:
        await close(client)


async def _calls(toolbox: Toolbox, tool: str, count: int) -> float:
    """Milliseconds that a step of so many calls takes."""
    finished: dict[str, ToolResultPart] = {}
    calls = [ToolCallPart(f"call-{number}", tool, {}) for number in range(count)]
    chat_id = ChatId(str(uuid.uuid4()))
    began = time.perf_counter()
    # As of a step that was stored just before: the calls of nearly all steps are.
    await toolbox.run(
        chat_id, calls, finished=finished, on_progress=lambda _, __: None, first=True, era="bench"
    )
    took_s = time.perf_counter() - began
    answers = [finished[call.call_id].content for call in calls]
    expect(answers == [(TextPart("done"),)] * count, f"a tool call failed: {answers}")
    return took_s * 1000
