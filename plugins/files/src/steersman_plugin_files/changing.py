"""Changes that are over when their call is, also when that was cancelled or took too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from steersman_contracts.confinement import Refused
from steersman_contracts.hooks import ToolContext, ToolResult

A = TypeVar("A")


async def change(
    work: Callable[[ToolContext, A], ToolResult], context: ToolContext, args: A
) -> ToolResult:
    """Do in a thread what changes files.

    Nothing can end a thread: it asks itself (`still_wanted`). This waits for that, because whoever
    hears that a call was stopped must be able to rely on it; what was changed by then is told.

    Args:
        work: Blocks.
        context: Of the call.
        args: Of the call.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work, context, args))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        if working.cancelled() or working.exception() is not None:
            raise
        return working.result()


def still_wanted(context: ToolContext) -> None:
    """Ask right before anything changes, and now and then.

    Raises:
        Refused: The call was cancelled.
    """
    if context.cancelled:
        raise Refused("the call was stopped before a file was changed")
