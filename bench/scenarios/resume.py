"""Coming back with a cursor: how soon the first byte is there, and that nothing is missing."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench.chats import Stream
from bench.context import FAKE, Bench, expect
from bench.figures import Budget, Row, over_rounds, percentile
from bench.http import Address, first_byte_s
from bench.providers import words

_MODEL: Final = "tokens-100-at-50"
_WAIT_S: Final = 10.0


async def measure(bench: Bench) -> list[Row]:
    """A new connection each time, with the id of an event in the middle of an answer."""
    address = await bench.address()
    samples = 2 * bench.size.samples
    ours: list[float] = []
    bare: list[float] = []
    async with bench.chats(1, f"{FAKE}/{_MODEL}") as (chat,):
        await chat.turn("Go on.", words(100))
        ids = list(chat.ids)
        expect(len(ids) == len(set(ids)) and b"" not in ids, "an event came twice or had no id")
        cursor_at = len(ids) // 2
        for _ in bench.rounds(bench.size.rounds, within_s=12):
            floor = [await first_byte_s(address, "/api/v1/me") for _ in range(samples)]
            bare.append(percentile(floor, 0.95) * 1000)
            took = [
                await _resume(address, chat.chat_id, ids[cursor_at], ids[cursor_at + 1 :])
                for _ in range(samples)
            ]
            ours.append(percentile(took, 0.95) * 1000)
    return [
        Row(
            scenario="resume",
            what="resume from a cursor, first byte, p95",
            unit="ms",
            measured=over_rounds(ours),
            baseline=over_rounds(bare),
            budget=Budget(20, "ms"),
            samples=samples * len(ours),
            rounds=len(ours),
            note="baseline: GET /api/v1/me on a new connection, p95",
        )
    ]


async def _resume(address: Address, chat_id: str, cursor: bytes, follow: list[bytes]) -> float:
    """Seconds to the first byte of the stream; reads on until all that follows has come."""
    loop = asyncio.get_running_loop()
    seen: list[bytes] = []
    complete: asyncio.Future[None] = loop.create_future()

    def on_event(event_id: bytes, name: bytes, _: bytes) -> None:
        if name == b"stream.sync":
            return  # says that the stream goes on after the cursor, under the cursor's own id
        seen.append(event_id)
        if len(seen) == len(follow) and not complete.done():
            complete.set_result(None)

    began = time.monotonic()
    stream = await Stream.open(address, chat_id, on_event, cursor=cursor.decode())
    try:
        async with asyncio.timeout(_WAIT_S):
            await complete
    finally:
        stream.close()
    expect(seen == follow, "the events after the cursor are not those that were streamed")
    return stream.first_body_at - began
