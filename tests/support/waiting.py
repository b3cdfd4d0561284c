"""Waiting for what nobody announces."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(check: Callable[[], bool | Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Wait for the state of a process, a table or a log; the time is only there to give up."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = check()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.03)
