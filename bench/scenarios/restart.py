"""The second start on the same data, and what the services weigh when nobody uses them."""

from __future__ import annotations

import asyncio
from typing import Final

from bench import processes
from bench.context import Bench
from bench.deployment import Deployment
from bench.figures import Budget, Row, over_rounds, shown

_IDLE_S: Final = 2.0
_MIB: Final = 2**20


async def measure(bench: Bench) -> list[Row]:
    """From the command to its ready file; memory two seconds later, before the first request."""
    await bench.deployment()  # the first start, if nothing ran yet
    await bench.stop()
    took: list[float] = []
    pss: list[float] = []
    rss: list[float] = []
    parts: dict[str, float] = {}
    for _ in bench.rounds(bench.size.starts, within_s=24):
        deployment = await Deployment.start(bench.directory)
        try:
            took.append(deployment.start_s)
            await asyncio.sleep(_IDLE_S)
            pids = {one.name: one.pid for one in deployment.facts.services}
            parts = {name: processes.pss_bytes(pid) / _MIB for name, pid in pids.items()}
            pss.append(sum(parts.values()))
            rss.append(sum(processes.rss_bytes(pid) for pid in pids.values()) / _MIB)
        finally:
            await deployment.stop()
    return [
        Row(
            scenario="restart",
            what="`steersman up`, second start, to ready",
            unit="s",
            measured=over_rounds(took),
            budget=Budget(6, "s"),
            samples=len(took),
            rounds=len(took),
        ),
        Row(
            scenario="restart",
            what="idle memory of the five services (PSS)",
            unit="MiB",
            measured=over_rounds(pss),
            budget=Budget(450, "MiB"),
            samples=len(pss),
            rounds=len(pss),
            note=f"RSS {shown(max(rss))}; "
            + ", ".join(f"{name} {shown(size)}" for name, size in parts.items()),
        ),
    ]
