"""One call from its arguments to its result. Nothing a tool does gets past this module."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import structlog

from steersman_contracts.hooks import PendingCall, ToolResult
from steersman_contracts.rpc.tools import CallTool
from steersman_runtime.tasks import TaskGroup
from steersman_tools.context import CallContext
from steersman_tools.plugins import HostedTool, Plugins
from steersman_tools.schemas import unknown_fields

log = structlog.stdlib.get_logger()


class BadArguments(ValueError):
    """The arguments are not what the tool declares; the text is for the model."""


def decode_arguments(hosted: HostedTool, arguments: dict[str, Any]) -> msgspec.Struct:
    """Turn the model's arguments into the tool's Struct.

    Raises:
        BadArguments: A field is missing, unknown, of another type or out of bounds.
    """
    if unknown := unknown_fields(hosted.schema, arguments):
        known = ", ".join(hosted.schema["properties"]) or "none"
        raise BadArguments(
            f"unknown field {', '.join(f'`{field}`' for field in unknown)}; "
            f"the fields of {hosted.spec.name} are: {known}"
        )
    try:
        return msgspec.convert(arguments, hosted.tool.arguments, strict=True)
    except msgspec.ValidationError as error:
        raise BadArguments(str(error)) from error
    except (TypeError, ValueError, RecursionError) as error:  # from the Struct's __post_init__
        raise BadArguments(f"{type(error).__name__}: {error}") from error


class Executor:
    """Runs calls of one host's tools."""

    def __init__(self, plugins: Plugins, *, cancel_grace_s: float) -> None:
        """Use these plugins.

        Args:
            plugins: The tools.
            cancel_grace_s: Seconds that a tool gets to end once it was cancelled.
        """
        self._plugins = plugins
        self._grace_s = cancel_grace_s
        self._handlers = TaskGroup("tool")

    async def execute(
        self, hosted: HostedTool, request: CallTool, context: CallContext
    ) -> ToolResult:
        """Run a call, hooks included. Cancelling this cancels the tool and waits for it a while."""
        try:
            arguments = decode_arguments(hosted, request.arguments)
        except BadArguments as error:
            return ToolResult.error(f"invalid arguments: {error}")
        pending = PendingCall(request.chat_id, request.call_id, request.tool, request.arguments)
        denied = self._plugins.before_call(pending)
        if denied is not None:
            return ToolResult.error(f"denied: {denied.reason}")
        result = await self._run(hosted, context, arguments)
        self._plugins.after_call(pending, result)
        return result

    async def _run(
        self, hosted: HostedTool, context: CallContext, arguments: msgspec.Struct
    ) -> ToolResult:
        started = time.monotonic()
        # A task of its own: a tool that ignores its cancellation is left behind, not waited for.
        task = self._handlers.start(_guarded(hosted, context, arguments), name=hosted.spec.name)
        try:
            await asyncio.wait({task}, timeout=context.timeout_s)
        except asyncio.CancelledError:
            await self._stop(task, context)
            raise
        if task.done():
            return task.result()
        last_words = await self._stop(task, context)
        log.warning("tool.timed_out", timeout_s=context.timeout_s)
        ran_s = time.monotonic() - started
        return ToolResult(
            text=f"timed out: {hosted.spec.name} ran for {ran_s:.1f} s and was stopped; "
            f"its limit was {context.timeout_s:g} s",
            content=last_words.parts() if last_words else (),
            is_error=True,
        )

    async def _stop(
        self, task: asyncio.Task[ToolResult], context: CallContext
    ) -> ToolResult | None:
        """Cancel; what the tool still returned, if it did."""
        context.cancelled = True
        task.cancel()
        await asyncio.wait({task}, timeout=self._grace_s)
        if not task.done():
            log.error("tool.ignores_cancellation", grace_s=self._grace_s)
            return None
        return None if task.cancelled() else task.result()


async def _guarded(
    hosted: HostedTool, context: CallContext, arguments: msgspec.Struct
) -> ToolResult:
    try:
        result = await hosted.tool.handler(context, arguments)
    except asyncio.CancelledError:
        if context.cancelled:
            raise
        return ToolResult.error("tool failed: CancelledError: it cancelled itself")
    # In a task, SystemExit and KeyboardInterrupt would end the whole service.
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if not context.cancelled:
            log.exception("tool.failed")
        return ToolResult.error(f"tool failed: {type(error).__name__}: {_message(error)}")
    if not isinstance(result, ToolResult):  # pyright: ignore[reportUnnecessaryIsInstance]  # plugins are not type-checked here
        return ToolResult.error(
            f"tool failed: it returned {type(result).__name__} in place of a ToolResult"
        )
    return result


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a stranger's class; the name of it has to do
        return "(no message)"
