"""Idle viewers: what an open event stream costs the gateway when nothing happens."""

from __future__ import annotations

import asyncio
from typing import Final

from bench import processes
from bench.chats import Stream
from bench.context import FAKE, Bench, expect, gather
from bench.deployment import Deployment
from bench.figures import Budget, Row, over_rounds
from bench.http import Address, Api
from bench.seeding import add_chats
from steersman_contracts.rpc.chats import SendReply

_MODEL: Final = f"{FAKE}/tokens-20"
_AT_ONCE: Final = 32
_WARM_UP: Final = 200
_SPOT_CHECKS: Final = 20
_ATTACH_S: Final = 90.0
_IDLE_S: Final = 3.0


class _Viewer:
    """One open stream that only notices what it must."""

    def __init__(self, chat_id: str) -> None:
        self.chat_id = chat_id
        self.stream: Stream | None = None
        self.attached = asyncio.Event()
        self.turn_ended = asyncio.Event()

    async def open(self, address: Address) -> None:
        self.stream = await Stream.open(address, self.chat_id, self._on_event)
        await self.attached.wait()

    def _on_event(self, _: bytes, name: bytes, data: bytes) -> None:
        if name == b"stream.sync":
            self.attached.set()
        elif name == b"chat.status" and b'"outcome":"completed"' in data.replace(b" ", b""):
            self.turn_ended.set()

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()


async def measure(bench: Bench) -> list[Row]:
    """Each viewer watches a chat of its own, which is the dearest case."""
    deployment = await bench.deployment()
    address = deployment.facts.address
    count = bench.size.viewers
    chats = await _seed(deployment, address, count)
    warm_up = await _open(address, chats[:_WARM_UP])
    _close(warm_up)
    await asyncio.sleep(1.0)
    gateway = deployment.facts.pid_of("gateway")
    before = processes.rss_bytes(gateway)
    viewers = await _open(address, chats)
    try:
        await asyncio.sleep(1.0)
        kib = (processes.rss_bytes(gateway) - before) / 1024 / count
        used = deployment.cpu()
        await asyncio.sleep(_IDLE_S)
        idle = deployment.cpu().since(used).by_service["gateway"] / _IDLE_S
        lost = sum(viewer.stream is None or viewer.stream.transport is None for viewer in viewers)
        expect(not lost, f"{lost} of {count} streams were closed")
        await _spot_check(address, viewers)
    finally:
        _close(viewers)
    return [
        Row(
            scenario="viewers",
            what=f"memory of an idle viewer, {count:,} on one gateway",
            unit="KiB",
            measured=over_rounds([kib]),
            budget=Budget(25, "KiB"),
            samples=count,
            rounds=1,
            note=f"each watches a chat of its own; the gateway uses {idle:.1%} of a core meanwhile",
        )
    ]


async def _seed(deployment: Deployment, address: Address, count: int) -> list[str]:
    api = Api(address)
    first = (await api.call("POST", "/chats", SendReply, {"model": _MODEL})).chat.id
    api.close()
    database = await deployment.database()
    try:
        return await add_chats(database, first, count, _MODEL)
    finally:
        await database.close()


async def _open(address: Address, chats: list[str]) -> list[_Viewer]:
    gate = asyncio.Semaphore(_AT_ONCE)
    viewers = [_Viewer(chat_id) for chat_id in chats]

    async def open_one(viewer: _Viewer) -> None:
        async with gate:
            await viewer.open(address)

    async with asyncio.timeout(_ATTACH_S):
        await gather(open_one(viewer) for viewer in viewers)
    return viewers


async def _spot_check(address: Address, viewers: list[_Viewer]) -> None:
    """Some of them must see a turn to its end."""
    api = Api(address)
    chosen = viewers[:: max(1, len(viewers) // _SPOT_CHECKS)]
    for viewer in chosen:
        await api.call("POST", f"/chats/{viewer.chat_id}/messages", SendReply, {"text": "Go on."})
    async with asyncio.timeout(_ATTACH_S):
        await gather(viewer.turn_ended.wait() for viewer in chosen)
    api.close()


def _close(viewers: list[_Viewer]) -> None:
    for viewer in viewers:
        viewer.close()
