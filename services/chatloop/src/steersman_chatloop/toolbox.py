"""Runs the tool calls of a step: each is one RPC to a tool host, all at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog

from steersman_chatloop.decide import error_result
from steersman_contracts.errors import SteersmanError, Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    CANCEL_CALL,
    LIST_TOOLS,
    CallProgress,
    CallResult,
    CallTool,
    CancelCall,
    ListTools,
    ToolSpec,
)
from steersman_runtime.rpc import RpcClient, last_reply
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

_CATALOG_S: Final = 5.0
_GRACE_S: Final = 15.0
_WAIT_FOR_HOST_S: Final = 20.0


class Toolbox:
    """The tools of the deployment."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._catalog: tuple[ToolSpec, ...] = ()
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._background = TaskGroup("toolbox")

    async def catalog(self) -> tuple[ToolSpec, ...]:
        """All tools, by name: as they were known a few seconds ago, read anew meanwhile.

        Only the first turn waits, and only when no host has answered yet.
        """
        if time.monotonic() - self._read_at > _CATALOG_S and self._reading is None:
            self._reading = self._background.start(self._read(), name="tool-catalog")
        if not self._catalog and self._reading is not None:
            await asyncio.wait((self._reading,))
        return self._catalog

    async def _read(self) -> None:
        try:
            catalog = await self._rpc.call(LIST_TOOLS, ListTools(), deadline_s=3)
            self._catalog = catalog.tools
        except SteersmanError as error:
            # Asked again in a while: not every turn is to wait for a host that is away.
            log.warning("tools.catalog_unavailable", error_code=error.code)
        finally:
            self._read_at = time.monotonic()
            self._reading = None

    async def needing_approval(self, names: Iterable[str]) -> frozenset[str]:
        """Which of these tools want a person to be asked before each call."""
        wanted = set(names)
        return frozenset(
            tool.name
            for tool in (await self.catalog() if wanted else ())
            if tool.needs_approval and tool.name in wanted
        )

    async def run(
        self,
        chat_id: ChatId,
        calls: Sequence[ToolCallPart],
        *,
        finished: dict[str, ToolResultPart],
        on_progress: Callable[[ToolCallPart, CallProgress], None],
    ) -> None:
        """Run calls concurrently; one that crashes costs one error result.

        Args:
            chat_id: The chat.
            calls: Local calls, not yet answered.
            finished: Gets each result as it arrives: what is there when this is cancelled, is what
                was finished.
            on_progress: Called for each progress report.
        """
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(self._run(chat_id, call, finished, on_progress))

    async def _run(
        self,
        chat_id: ChatId,
        call: ToolCallPart,
        finished: dict[str, ToolResultPart],
        on_progress: Callable[[ToolCallPart, CallProgress], None],
    ) -> None:
        try:
            finished[call.call_id] = await self._result(chat_id, call, on_progress)
        except asyncio.CancelledError:
            # The host goes on unless it is told; nobody waits for the answer.
            cancel = self._rpc.call(CANCEL_CALL, CancelCall(chat_id, call.call_id), deadline_s=5)
            self._background.start(_quietly(cancel))
            raise

    async def _result(
        self,
        chat_id: ChatId,
        call: ToolCallPart,
        on_progress: Callable[[ToolCallPart, CallProgress], None],
    ) -> ToolResultPart:
        if call.invalid is not None:
            return error_result(call, f"the arguments are not a JSON object: {call.invalid[:500]}")
        spec = await self._spec(call.tool)
        if spec is None:
            names = ", ".join(tool.name for tool in self._catalog) or "none"
            return error_result(call, f"there is no tool {call.tool!r}; there are: {names}")
        request = CallTool(chat_id, call.call_id, call.tool, call.arguments)
        try:
            result = await self._ask(request, spec, lambda frame: on_progress(call, frame))
        except SteersmanError as error:
            log.warning("tool.failed", tool=call.tool, error_code=error.code)
            if error.details.get("started"):
                return error_result(
                    call, "interrupted: the tools service stopped during the call, effect unknown"
                )
            return error_result(call, f"the call could not be made: {error}")
        return ToolResultPart(
            call.call_id, call.tool, result.content, result.is_error, duration_ms=result.duration_ms
        )

    async def _spec(self, name: str) -> ToolSpec | None:
        """A tool by name; the catalog is read again before it is said that there is none."""
        for fresh in (False, True):
            if fresh:
                await self._read()
            for tool in await self.catalog():
                if tool.name == name:
                    return tool
        return None

    async def _ask(
        self, request: CallTool, spec: ToolSpec, on_progress: Callable[[CallProgress], None]
    ) -> CallResult:
        until = time.monotonic() + _WAIT_FOR_HOST_S
        pause = 0.05
        while True:
            stream = self._rpc.stream(
                CALL_TOOL, request, CallProgress, deadline_s=spec.timeout_s + _GRACE_S
            )
            try:
                return await last_reply(stream, CallResult, on_progress)
            except Unavailable as error:
                # Nobody took it: asking again cannot run it twice.
                if error.details.get("started") or time.monotonic() + pause > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)


async def _quietly(call: Awaitable[object]) -> None:
    try:
        await call
    except SteersmanError as error:
        log.debug("tool.cancel_lost", error_code=error.code)
