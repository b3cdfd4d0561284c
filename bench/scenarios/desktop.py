"""A virtual desktop: how long until it is seen, and how long a look takes."""

from __future__ import annotations

import time

from bench.context import Bench, expect
from bench.figures import Budget, Row, over_rounds, percentile
from steersman_desktop.machine import LocalMachine
from steersman_desktop.operating import Operator
from steersman_desktop.places import Places
from steersman_desktop.programs import missing_programs

_LOOKS = 20


async def measure(bench: Bench) -> list[Row]:
    """From nothing to the first picture, and pictures of a desktop that runs."""
    if missing_programs():
        return []
    places = Places("", 8, 61_200)
    starts: list[float] = []
    looks: list[float] = []
    for _ in bench.rounds(bench.size.rounds, within_s=20):
        began = time.perf_counter()
        machine = await LocalMachine.open(places.take(), (1280, 800), sandbox=True, timeout_s=30)
        try:
            operator = Operator(machine.rfb, machine.x)
            expect((await operator.look()).data, "the first picture is empty")
            starts.append((time.perf_counter() - began) * 1000)
            took: list[float] = []
            for _ in range(_LOOKS):
                began = time.perf_counter()
                await operator.look()
                took.append((time.perf_counter() - began) * 1000)
            looks.append(percentile(took, 0.5))
        finally:
            await machine.stop()
    return [
        Row(
            scenario="desktop",
            what="desktop: start to first picture",
            unit="ms",
            measured=over_rounds(starts),
            budget=Budget(230, "ms"),
            samples=len(starts),
            rounds=len(starts),
        ),
        Row(
            scenario="desktop",
            what="desktop: screenshot as PNG, p50",
            unit="ms",
            measured=over_rounds(looks),
            budget=Budget(45, "ms"),
            samples=_LOOKS * len(looks),
            rounds=len(looks),
        ),
    ]
