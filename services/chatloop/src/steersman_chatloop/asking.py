"""Asking the store until it answers: an outage pauses a turn, it does not end it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
import structlog

from steersman_contracts.errors import DeadlineExceeded, Unavailable
from steersman_contracts.rpc import Method
from steersman_runtime.rpc import RpcClient

log = structlog.stdlib.get_logger()

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
_SHORTEST_CALL_S: Final = 0.05


async def ask(
    rpc: RpcClient,
    method: Method[Q, R],
    request: Q,
    *,
    within_s: float,
    gives_up: Callable[[], bool] = lambda: False,
) -> R:
    """Ask again while the store is away, or too slow to answer.

    Args:
        rpc: The connection.
        method: What asking twice does no harm to: reads, and writes under a fence, which refuses
            the second one if the first took effect.
        request: Its argument.
        within_s: Seconds until nobody waits any longer.
        gives_up: Looked at after each failure: whether nobody waits any longer now.

    Raises:
        Unavailable: It was away all the time; whether a write took effect is unknown.
        DeadlineExceeded: The same, and it was too slow last.
        SteersmanError: What it answered.
    """
    end = time.monotonic() + within_s
    pause = _FIRST_PAUSE_S
    while True:
        left = max(_SHORTEST_CALL_S, end - time.monotonic())
        try:
            return await rpc.call(method, request, deadline_s=min(method.deadline_s, left))
        except (Unavailable, DeadlineExceeded) as error:
            if gives_up() or time.monotonic() + pause >= end:
                raise
            log.warning("store.unavailable", method=method.name, error_code=error.code)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
