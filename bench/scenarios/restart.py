"""The second start on the same data, and what the services weigh when nobody uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from bench import processes
from bench.context import Bench
from bench.deployment import Deployment
from bench.figures import Budget, Row, over_rounds, shown
from bench.http import Api
from bench.providers import KEY
from steersman_contracts.rpc.models import ProviderType

_IDLE_S: Final = 2.0
_MIB: Final = 2**20
_ADAPTERS: Final[tuple[ProviderType, ...]] = ("anthropic", "openai-responses", "google")
_IMPORTED_S: Final = 10.0
"""Enough for the imports of all of them, which begin when the first one is told."""


async def measure(bench: Bench) -> list[Row]:
    """From the command to its ready file; memory two seconds later, before the first request.

    And what it is once somebody has configured every large provider.
    """
    await bench.deployment()  # the first start, if nothing ran yet
    await bench.stop()
    took: list[float] = []
    pss: list[float] = []
    rss: list[float] = []
    warm: list[float] = []
    parts: dict[str, float] = {}
    warm_parts: dict[str, float] = {}
    for _ in bench.rounds(bench.size.starts, within_s=24):
        deployment = await Deployment.start(bench.directory)
        try:
            took.append(deployment.start_s)
            await asyncio.sleep(_IDLE_S)
            parts = _pss(deployment)
            pss.append(sum(parts.values()))
            pids = [one.pid for one in deployment.facts.services]
            rss.append(sum(processes.rss_bytes(pid) for pid in pids) / _MIB)
            if not warm:  # they are imported once for each process, and this takes its time
                async with _configured(deployment):
                    warm_parts = _pss(deployment)
                warm.append(sum(warm_parts.values()))
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
            note=f"RSS {shown(max(rss))}; {_each(parts)}",
        ),
        Row(
            scenario="restart",
            what="the same with the adapters of Anthropic, OpenAI and Google imported",
            unit="MiB",
            measured=over_rounds(warm),
            budget=Budget(450, "MiB"),
            samples=len(warm),
            rounds=len(warm),
            note=_each(warm_parts),
        ),
    ]


def _pss(deployment: Deployment) -> dict[str, float]:
    """MiB of each service."""
    services = deployment.facts.services
    return {one.name: processes.pss_bytes(one.pid) / _MIB for one in services}


def _each(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {shown(size)}" for name, size in parts.items())


@asynccontextmanager
async def _configured(deployment: Deployment) -> AsyncGenerator[None]:
    """A provider of each type that has an adapter of its own, and time to import it."""
    api = Api(deployment.facts.address)
    body: dict[str, object]
    try:
        for kind in _ADAPTERS:
            body = {"type": kind, "base_url": "http://127.0.0.1:9", "api_key": KEY}
            await api.raw("PUT", f"/providers/idle-{kind}", body)
            body = {"provider_id": f"idle-{kind}", "model_id": "m"}
            await api.raw("PUT", "/models", body)
        await asyncio.sleep(_IMPORTED_S)
        yield
        for kind in _ADAPTERS:
            await api.raw("DELETE", f"/models/idle-{kind}/m")
            await api.raw("DELETE", f"/providers/idle-{kind}")
    finally:
        api.close()
