"""A new chat: one request that stores it."""

from __future__ import annotations

import time

import msgspec

from bench.context import FAKE, Bench
from bench.figures import Budget, Row, over_rounds, percentile
from bench.http import Api
from steersman_contracts.rpc.chats import SendReply


async def measure(bench: Bench) -> list[Row]:
    """On an open connection; the baseline is the least that the same gateway answers."""
    api = Api(await bench.address())
    samples = 2 * bench.size.samples
    ours: list[float] = []
    bare: list[float] = []
    for _ in bench.rounds(bench.size.rounds, within_s=8):
        bare.append(percentile([await _timed(api, "GET", "/me") for _ in range(samples)], 0.5))
        took = [
            await _timed(api, "POST", "/chats", {"model": f"{FAKE}/tokens-20"})
            for _ in range(samples)
        ]
        ours.append(percentile(took, 0.5))
    api.close()
    return [
        Row(
            scenario="chat",
            what="new chat",
            unit="ms",
            measured=over_rounds(ours),
            baseline=over_rounds(bare),
            budget=Budget(5, "ms"),
            samples=samples * len(ours),
            rounds=len(ours),
            note="baseline: GET /api/v1/me",
        )
    ]


async def _timed(api: Api, method: str, path: str, body: dict[str, object] | None = None) -> float:
    await api.ready()
    began = time.monotonic()
    if body is None:
        await api.call(method, path, msgspec.Raw)
    else:
        await api.call(method, path, SendReply, body)
    return (time.monotonic() - began) * 1000
