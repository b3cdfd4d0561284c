"""Calls that others run: a tool host, a deputy in a container, another replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple

import msgspec
import structlog

from steersman_contracts.errors import SteersmanError, Unavailable
from steersman_contracts.hooks import ToolResult
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    CallProgress,
    CallResult,
    CallTool,
    CancelCall,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient, last_reply
from steersman_tools.context import CallContext

log = structlog.stdlib.get_logger()

_LOOK_S: Final = 1.0
_MISSES: Final = 3
"""In a row: a connection that is made anew is away for a moment."""
_GRACE_S: Final = 10.0
"""What whoever runs the call may take beyond its limit to say that it took too long."""


class Address(NamedTuple):
    """Where a call is sent to, and where it is heard that nobody wants it any more."""

    run: str
    cancel: str


async def forward(
    client: NatsClient,
    rpc: RpcClient,
    address: Address,
    request: CallTool,
    context: CallContext,
    *,
    alive: Callable[[], Awaitable[bool]] | None = None,
) -> ToolResult:
    """Let somebody else run a call; cancelling this cancels it there.

    Args:
        client: For what nobody answers.
        rpc: For what somebody answers.
        address: Of whoever runs it.
        request: The call.
        context: Of the call here: its limit, and who hears of its progress.
        alive: Whether whoever runs it is still there. It is asked now and then, because silence
            alone tells late.

    Raises:
        SteersmanError: There is no result; with the detail `started` it may have taken effect.
    """
    asking = asyncio.ensure_future(_ask(rpc, address.run, request, context))
    try:
        misses = 0
        while misses < _MISSES:
            done, _ = await asyncio.wait({asking}, timeout=None if alive is None else _LOOK_S)
            if done:
                return asking.result()
            misses = 0 if alive is None or await alive() else misses + 1
        raise Unavailable("whoever ran the call is gone", started=True)
    except asyncio.CancelledError:
        _cancel(client, address, request)
        raise
    finally:
        asking.cancel()
        await asyncio.wait({asking})


async def _ask(rpc: RpcClient, subject: str, request: CallTool, context: CallContext) -> ToolResult:
    method = replace(CALL_TOOL, address=subject)
    stream = rpc.stream(method, request, CallProgress, deadline_s=context.timeout_s + _GRACE_S)

    def on_frame(frame: CallProgress) -> None:
        if frame.text:
            context.progress(frame.text)

    result = await last_reply(stream, CallResult, on_frame)
    return ToolResult(content=result.content, is_error=result.is_error)


def _cancel(client: NatsClient, address: Address, request: CallTool) -> None:
    # To everybody at the address: only one of them knows the call.
    cancel = CancelCall(request.chat_id, request.call_id, request.epoch)
    try:
        client.send(address.cancel, msgspec.json.encode(cancel))
    except SteersmanError as error:
        log.debug("cancel.lost", error_code=error.code)
