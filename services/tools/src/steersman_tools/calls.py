"""Running calls, each under its key: a call belongs to the ledger, not to whoever asked for it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import msgspec
import structlog
from prometheus_client import Counter, Gauge, Histogram

from steersman_contracts.errors import (
    Conflict,
    InternalError,
    InvalidRequest,
    SteersmanError,
    TooManyRequests,
    Unavailable,
)
from steersman_contracts.hooks import ToolResult
from steersman_contracts.ids import is_chat_id
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.caller import Caller
from steersman_contracts.rpc.tools import (
    MAX_TIMEOUT_S,
    NOT_BOOKED,
    CallProgress,
    CallResult,
    CallTool,
    CancelCall,
)
from steersman_runtime.rpc import Frames
from steersman_runtime.tasks import TaskGroup
from steersman_tools.admission import Admission
from steersman_tools.catalog import Tools
from steersman_tools.context import CallContext, Progress
from steersman_tools.execution import Executor, LocalTool, Runnable
from steersman_tools.hosts import Hosts, short
from steersman_tools.ledger import CallKey, Ledger
from steersman_tools.places import Ground, NoPlace
from steersman_tools.plugins import Plugins
from steersman_tools.results import BadResult, Limits, to_call_result
from steersman_tools.settings import Settings
from steersman_tools.workspaces import Workspaces

log = structlog.stdlib.get_logger()

CANCELLED: Final = "cancelled: the call was stopped; what it did until then stays"
STOPPED: Final = "interrupted: the tools service stopped, effect unknown"

_ACCEPTED_AFTER_S: Final = 0.02
"""Seconds after which a call that still runs is said to be here."""

CALLS = Counter("steersman_tool_calls", "Tool calls that ended", ["tool", "outcome"])
SECONDS = Histogram(
    "steersman_tool_seconds",
    "Seconds from taking a tool call to its result",
    ["tool"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600, 3600),
)
RUNNING = Gauge("steersman_tool_calls_running", "Tool calls that run or wait to run")


class _Call:
    """A call that was taken and has no result yet."""

    def __init__(self, request: CallTool, fingerprint: str, *, held: bool) -> None:
        self.held = held
        """Another host has it in the book, admits it and asks the hooks."""
        self.reserved = False
        """It is in the book as ours to run: how it ends is to be written there."""
        self.request = request
        self.fingerprint = fingerprint
        self.result: asyncio.Future[CallResult] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self.stop_reason = ""
        self.progress = Progress(self._publish)
        self._last: CallProgress | None = None
        self._watchers: list[Frames] = []

    async def watch(self, frames: Frames) -> CallResult:
        """Wait for the result; progress goes to `frames` meanwhile."""
        self._watchers.append(frames)
        try:
            if self._last is not None:
                _send(frames, self._last)
            return await asyncio.shield(self.result)
        finally:
            self._watchers.remove(frames)

    def stop(self, reason: str) -> None:
        """End the call with an error result. The first reason stays."""
        if not self.stopped.is_set():
            self.stop_reason = reason
            self.stopped.set()

    def _publish(self, progress: CallProgress) -> None:
        self._last = progress
        for frames in self._watchers:
            _send(frames, progress)


def _send(frames: Frames, progress: CallProgress) -> None:
    try:
        frames.progress(progress)
    except Unavailable:
        log.debug("progress.dropped")  # NATS is away; the call has nothing to do with it


class Calls:
    """Takes calls, runs each key once, and answers everybody who asks for it."""

    def __init__(
        self,
        *,
        host: str,
        tools: Tools,
        executor: Executor,
        ledger: Ledger,
        workspaces: Workspaces,
        limits: Limits,
        max_concurrent: int,
        max_per_chat: int,
        max_waiting: int,
        rpc: Caller | None = None,
        ground: Ground | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self._here = short(host)
        self._hosts = hosts
        self._ground = ground
        self._accepted = CallProgress(0, "", host)
        self._tools = tools
        self._rpc = rpc
        self._executor = executor
        self._ledger = ledger
        self._workspaces = workspaces
        self._limits = limits
        self._admission = Admission(slots=max_concurrent, per_chat=max_per_chat)
        self._most = max_concurrent + max_waiting
        self._running: dict[CallKey, _Call] = {}
        self._tasks = TaskGroup("call")

    async def run(self, request: CallTool, frames: Frames) -> CallResult:
        """Run a call, attach to it, or return the result that it has.

        When this is cancelled because the caller has gone, the call goes on.

        Raises:
            InvalidRequest: The chat id is malformed.
            Conflict: The same key was asked for with another tool or other arguments.
            CallElsewhere: Another replica runs it.
            TooManyRequests: More calls wait than may.
        """
        if not is_chat_id(request.chat_id):
            raise InvalidRequest(f"not a chat id: {request.chat_id!r:.80}", field="chat_id")
        return await self._attend(request, frames, held=False)

    async def run_held(self, request: CallTool, frames: Frames) -> CallResult:
        """Run a call that another host has booked, because what it is about is held here.

        Raises:
            Conflict, TooManyRequests: See `run`.
        """
        return await self._attend(request, frames, held=True)

    async def _attend(self, request: CallTool, frames: Frames, *, held: bool) -> CallResult:
        key = CallKey(request.chat_id, request.call_id, request.epoch)
        fingerprint = _fingerprint(request)
        call = self._running.get(key)
        if call is None:
            call = self._take(key, request, fingerprint, held=held)
        elif call.fingerprint != fingerprint:
            raise Conflict(
                f"call {key.call_id!r} runs with another tool or other arguments",
                call_id=key.call_id,
            )
        # Who asks can look after this host from then on: frames would tell too late that it died.
        # A call that is over before costs no message of its own.
        accepting = asyncio.get_running_loop().call_later(
            _ACCEPTED_AFTER_S, _send, frames, self._accepted
        )
        try:
            return await call.watch(frames)
        finally:
            accepting.cancel()

    def cancel(self, request: CancelCall) -> bool:
        """Stop a call if this process runs it; say whether it does."""
        call = self._running.get(CallKey(request.chat_id, request.call_id, request.epoch))
        if call is None:
            return False
        call.stop(CANCELLED)
        return True

    async def cancel_early(self, request: CancelCall) -> None:
        """Stop a call, also one whose request is still on its way: it will not run here."""
        if not self.cancel(request):
            result = CallResult((TextPart(CANCELLED),), is_error=True)
            key = CallKey(request.chat_id, request.call_id, request.epoch)
            await self._ledger.refuse(key, result)

    async def finish(self, timeout_s: float) -> bool:
        """Wait for the running calls; say whether they ended in time."""
        return await self._tasks.finish(timeout_s)

    def interrupt(self) -> None:
        """End all running calls: the service stops."""
        for call in self._running.values():
            call.stop(STOPPED)

    def _take(self, key: CallKey, request: CallTool, fingerprint: str, *, held: bool) -> _Call:
        if len(self._running) >= self._most:
            raise TooManyRequests(f"{self._most} calls run or wait already", limit=self._most)
        # Known before anything is awaited: of two requests at the same moment, one attaches.
        call = self._running[key] = _Call(request, fingerprint, held=held)
        RUNNING.inc()
        self._tasks.start(self._settle(key, call))
        return call

    async def _settle(self, key: CallKey, call: _Call) -> None:
        structlog.contextvars.bind_contextvars(
            chat_id=key.chat_id, call_id=key.call_id, tool=call.request.tool
        )
        try:
            call.result.set_result(await self._answer(key, call))
        except SteersmanError as error:
            call.result.set_exception(error)
        except Exception:  # whatever happened, those who wait get an answer
            log.exception("call.failed")
            call.result.set_exception(InternalError("the call could not be run; the log says why"))
        finally:
            call.progress.close()
            RUNNING.dec()
            try:
                await self._book(key, call)
            finally:
                # Until the book has the result, whoever asks again is answered from here.
                del self._running[key]

    async def _book(self, key: CallKey, call: _Call) -> None:
        """Write down how a call of ours has ended. It is answered already (decision 51)."""
        if not call.result.done() or call.result.exception() is not None or not call.reserved:
            return
        try:
            await self._ledger.finish(key, call.result.result())
        except Exception:  # the answer was true all the same
            log.exception("call.not_booked")

    async def _answer(self, key: CallKey, call: _Call) -> CallResult:
        plugins = self._tools.registry.current
        with plugins.in_use():  # until the result is there, also while the call waits for its turn
            tool = await self._tools.find(call.request.tool, call.request.chat_id)
            if tool is None or tool.spec.read_only or call.held:
                # Nothing happens that must not happen twice: no book is kept.
                return await self._perform(call, plugins, tool, _nothing)
            begins = self._admission.is_open(call.request.chat_id, tool.spec)
            try:
                result = await self._ledger.reserve(
                    key,
                    call.fingerprint,
                    running=begins,
                    repeatable=tool.spec.idempotent,
                    first=call.request.first,
                    era=call.request.era,
                )
            except Unavailable as error:
                error.details[NOT_BOOKED] = True
                raise
            if result is None:
                call.reserved = True
                start = _nothing if begins else partial(self._ledger.start, key)
                result = await self._perform(call, plugins, tool, start)
            return result

    async def _perform(
        self,
        call: _Call,
        plugins: Plugins,
        tool: Runnable | None,
        start: Callable[[], Awaitable[None]],
    ) -> CallResult:
        started = time.monotonic()
        limits = self._limits.of(call.request.result_bytes)
        log.info("call.started")
        work = asyncio.get_running_loop().create_task(self._work(call, plugins, tool, start))
        stopped = asyncio.get_running_loop().create_task(call.stopped.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        outcome, result = _outcome(work, call)
        seconds = time.monotonic() - started
        try:
            kept = to_call_result(result, duration_ms=int(seconds * 1000), limits=limits)
        except BadResult as error:
            outcome = "bad_result"
            log.error("tool.bad_result", error=str(error)[:500])  # noqa: TRY400  # the message says it all
            kept = to_call_result(
                ToolResult.error(f"tool failed: {error}"),
                duration_ms=int(seconds * 1000),
                limits=limits,
            )
        if tool is not None and tool.spec.ends_turn and not kept.is_error:
            kept = msgspec.structs.replace(kept, ends_turn=True)
        known = "unknown" if tool is None else tool.spec.name
        CALLS.labels(known, outcome).inc()
        SECONDS.labels(known).observe(seconds)
        log.info("call.finished", outcome=outcome, duration_ms=kept.duration_ms)
        return kept

    async def _work(
        self,
        call: _Call,
        plugins: Plugins,
        tool: Runnable | None,
        start: Callable[[], Awaitable[None]],
    ) -> ToolResult:
        request = call.request
        if tool is None:
            names = ", ".join(spec.name for spec in self._tools.specs) or "none"
            return ToolResult.error(f"there is no tool {request.tool!r}; the tools are: {names}")
        context = CallContext(
            chat_id=request.chat_id,
            call_id=request.call_id,
            timeout_s=min(request.timeout_s or tool.spec.timeout_s, MAX_TIMEOUT_S),
            workspaces=self._workspaces,
            progress=call.progress,
            rpc=self._rpc,
            host=self._here,
            result_bytes=self._limits.of(request.result_bytes).text_bytes,
            no_workspace=request.no_workspace,
        )
        if call.held:
            return await self._act(call, plugins, tool, context)
        async with self._admission.enter(request.chat_id, tool.spec):
            await start()
            return await self._act(call, plugins, tool, context)

    async def _act(
        self, call: _Call, plugins: Plugins, tool: Runnable, context: CallContext
    ) -> ToolResult:
        """Run the tool where it acts: in the place of its chat, on the host that it is about."""
        executor = self._executor
        # Whether the call is booked was for this host to know.
        request = msgspec.structs.replace(call.request, first=False, era=None)
        try:
            async with AsyncExitStack() as stack:
                if self._ground is not None:
                    tool = await stack.enter_async_context(self._ground.place(context, tool))
                if call.held:
                    return await executor.execute_alone(tool, request, context)
                if self._hosts is not None and isinstance(tool, LocalTool):
                    tool = self._hosts.routed(tool)
                return await executor.execute(plugins, tool, request, context)
        except NoPlace as refused:
            return ToolResult.error(str(refused))


def limits_of(settings: Settings, max_payload: int) -> Limits:
    """What fits into one message: text may grow sixfold by JSON escapes, files by base64."""
    largest = max(settings.max_result_bytes, settings.largest_result_bytes)
    room = (max_payload - 6 * largest - (16 << 10)) * 3 // 4
    files = max(0, min(settings.max_file_bytes, room))
    return Limits(settings.max_result_bytes, files, largest)


async def _nothing() -> None:
    """The ledger knows already that the call runs, or does not have to."""


def _outcome(work: asyncio.Task[ToolResult], call: _Call) -> tuple[str, ToolResult]:
    if work.cancelled():
        return "stopped", ToolResult.error(call.stop_reason)
    result = work.result()
    return ("error" if result.is_error else "ok"), result


def _fingerprint(request: CallTool) -> str:
    body = msgspec.json.encode((request.tool, request.arguments), order="sorted")
    return hashlib.sha256(body).hexdigest()
