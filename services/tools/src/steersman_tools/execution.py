"""One call from its arguments to its result. Nothing a tool does gets past this module."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import msgspec
import structlog

from steersman_contracts.hooks import Denied, PendingCall, Tool, ToolResult
from steersman_contracts.parts import JsonObject
from steersman_contracts.plugin import HostedTool
from steersman_contracts.rpc.tools import CallTool, ToolSpec
from steersman_contracts.tool_schema import unknown_fields
from steersman_runtime.tasks import TaskGroup
from steersman_tools.context import CallContext
from steersman_tools.plugins import Plugins

log = structlog.stdlib.get_logger()


class BadArguments(ValueError):
    """The arguments are not what the tool declares; the text is for the model."""


class Runnable(Protocol):
    """A tool that can be run, wherever it lives."""

    @property
    def spec(self) -> ToolSpec:
        """What everybody may know about it."""
        ...

    def decode(self, arguments: JsonObject) -> Any:
        """Turn the model's arguments into what the tool takes.

        Raises:
            BadArguments: They are not what it declares.
        """
        ...

    async def run(self, request: CallTool, context: CallContext, arguments: Any) -> ToolResult:
        """Run it. Whatever it raises is an error result."""
        ...


class LocalTool:
    """A tool of a plugin in this process."""

    def __init__(self, hosted: HostedTool) -> None:
        self._hosted = hosted

    @property
    def spec(self) -> ToolSpec:
        return self._hosted.spec

    @property
    def tool(self) -> Tool[Any]:
        """As the plugin has declared it."""
        return self._hosted.tool

    def decode(self, arguments: JsonObject) -> msgspec.Struct | JsonObject:
        return decode_arguments(self._hosted, arguments)

    async def run(self, request: CallTool, context: CallContext, arguments: Any) -> ToolResult:
        del request  # the context has all of it
        context.plugin = self._hosted.plugin
        return await self._hosted.tool.handler(context, arguments)


def decode_arguments(hosted: HostedTool, arguments: JsonObject) -> msgspec.Struct | JsonObject:
    """Turn the model's arguments into the tool's Struct.

    Those of a tool with a schema of its own stay as they are: whoever declared it checks them.

    Raises:
        BadArguments: A field is missing, unknown, of another type or out of bounds.
    """
    if hosted.tool.input_schema is not None:
        return arguments
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

    def __init__(self, *, cancel_grace_s: float) -> None:
        """Set how patient to be.

        Args:
            cancel_grace_s: Seconds that a tool gets to end once it was cancelled.
        """
        self._grace_s = cancel_grace_s
        self._handlers = TaskGroup("tool")

    async def execute(
        self, plugins: Plugins, tool: Runnable, request: CallTool, context: CallContext
    ) -> ToolResult:
        """Run a call, hooks included. Cancelling this cancels the tool and waits for it a while."""
        try:
            arguments = tool.decode(request.arguments)
            pending = PendingCall(request.chat_id, request.call_id, request.tool, request.arguments)
            allowed = await plugins.before_call(pending)
            if isinstance(allowed, Denied):
                return ToolResult.error(f"denied: {allowed.reason}")
            if allowed is not pending:
                request = msgspec.structs.replace(request, arguments=allowed.arguments)
                arguments = tool.decode(allowed.arguments)
        except BadArguments as error:
            return ToolResult.error(f"invalid arguments: {error}")
        result = await self._run(tool, request, context, arguments)
        return await plugins.after_call(allowed, result)

    async def execute_alone(
        self, tool: Runnable, request: CallTool, context: CallContext
    ) -> ToolResult:
        """Run a call for another host, which asks the hooks."""
        try:
            arguments = tool.decode(request.arguments)
        except BadArguments as error:
            return ToolResult.error(f"invalid arguments: {error}")
        return await self._run(tool, request, context, arguments)

    async def _run(
        self, tool: Runnable, request: CallTool, context: CallContext, arguments: Any
    ) -> ToolResult:
        started = time.monotonic()
        # A task of its own: a tool that ignores its cancellation is left behind, not waited for.
        work = _guarded(tool, request, context, arguments)
        task = self._handlers.start(work, name=tool.spec.name)
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
            text=f"timed out: {tool.spec.name} ran for {ran_s:.1f} s and was stopped; "
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
    tool: Runnable, request: CallTool, context: CallContext, arguments: Any
) -> ToolResult:
    try:
        result = await tool.run(request, context, arguments)
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
