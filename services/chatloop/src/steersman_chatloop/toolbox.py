"""Runs the tool calls of a step: each is one RPC to the tools service, all at the same time.

Asking again is always safe: the service books every call under (chat, call id, epoch). So whatever
goes wrong on the way (a host that dies, a connection that is lost), the answer is to ask again, and
the book says whether the call runs elsewhere, has a result, or was lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import structlog

from steersman_chatloop.decide import error_result
from steersman_contracts import subjects
from steersman_contracts.computer_providers import NOT_EXECUTED
from steersman_contracts.computer_use import TOOL as COMPUTER
from steersman_contracts.errors import (
    CallElsewhere,
    DeadlineExceeded,
    SteersmanError,
    Unavailable,
)
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc import Method
from steersman_contracts.rpc.tools import (
    CALL_TOOL,
    CANCEL_CALL,
    LIST_TOOLS,
    NOT_BOOKED,
    PING_HOST,
    CallProgress,
    CallResult,
    CallTool,
    CancelCall,
    Era,
    ListTools,
    PingHost,
    PluginPrompt,
    ToolSpec,
)
from steersman_contracts.rpc.worker import OwnedChat
from steersman_runtime.rpc import RpcClient, last_reply
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

_LOST: Final = "interrupted: the call was cut off before its result was kept, effect unknown"
_CATALOG_S: Final = 5.0
_CHAT_CATALOG_S: Final = 15.0
"""A little more than the tools service takes to look for the tools of a chat."""
_CHATS: Final = 1_000
_GRACE_S: Final = 15.0
_WAIT_FOR_HOST_S: Final = 20.0
_STILL_SO_S: Final = 1.0
"""How long what a commit has told of a chat is good enough for calls that only read."""
_PING_S: Final = 1.0
"""How often hosts that run calls are looked after."""
_FIRST_FRAME_S: Final = 3.0
"""Until a host says that it has the call, nobody knows whom to look after; it does so in 20 ms."""


class _HostLost(Unavailable):
    """The host that runs a call does not answer any more."""


@dataclass(slots=True, eq=False)
class _Ask:
    """One request, while it is on its way."""

    host: str = ""
    """Who has the call, once that is known."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class Toolbox:
    """The tools of the deployment."""

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._catalog: tuple[ToolSpec, ...] = ()
        self._prompts: tuple[PluginPrompt, ...] = ()
        self._of_chats: OrderedDict[ChatId, tuple[ToolSpec, ...]] = OrderedDict()
        self._unread: set[ChatId] = set()
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._background = TaskGroup("toolbox")
        self._asks: set[_Ask] = set()
        self._watching: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """End what still goes on beside the turns."""
        await self._background.cancel()

    async def catalog(self) -> tuple[ToolSpec, ...]:
        """All tools, by name: as they were known a few seconds ago, read anew meanwhile.

        Only the first turn waits, and only when no host has answered yet.
        """
        if time.monotonic() - self._read_at > _CATALOG_S and self._reading is None:
            self._reading = self._background.start(self._read(), name="tool-catalog")
        if not self._catalog and self._reading is not None:
            await asyncio.wait((self._reading,))
        return self._catalog

    @property
    def prompts(self) -> tuple[PluginPrompt, ...]:
        """What the plugins have to say to models, as old as the catalog; by plugin name."""
        return self._prompts

    async def _read(self) -> None:
        try:
            catalog = await self._rpc.call(LIST_TOOLS, ListTools(), deadline_s=3)
            self._catalog, self._prompts = catalog.tools, catalog.prompts
        except SteersmanError as error:
            # Asked again in a while: not every turn is to wait for a host that is away.
            log.warning("tools.catalog_unavailable", error_code=error.code)
        finally:
            self._read_at = time.monotonic()
            self._reading = None

    async def needing_approval(self, chat_id: ChatId, names: Iterable[str]) -> frozenset[str]:
        """Which of these tools want a person to be asked before each call.

        So do those about which nobody can say anything now: a moment later they may be there.
        """
        asked: set[str] = set()
        for name in sorted(set(names)):
            spec = await self._spec(chat_id, name)
            if (chat_id in self._unread) if spec is None else spec.needs_approval:
                asked.add(name)
        return frozenset(asked)

    async def known_to(self, chat: OwnedChat) -> tuple[ToolSpec, ...]:
        """All tools that there are for a chat."""
        return await (self.of_chat(chat.chat_id) if chat.has_own_tools else self.catalog())

    async def of_chat(self, chat_id: ChatId) -> tuple[ToolSpec, ...]:
        """All tools with those that this chat alone may use; asked anew each time."""
        try:
            catalog = await self._rpc.call(
                LIST_TOOLS, ListTools(chat_id), deadline_s=_CHAT_CATALOG_S
            )
        except SteersmanError as error:
            # A turn goes on with what is there for every chat.
            log.warning("tools.catalog_unavailable", error_code=error.code)
            self._unread.add(chat_id)
            return await self.catalog()
        self._unread.discard(chat_id)
        self._of_chats[chat_id] = catalog.tools
        self._of_chats.move_to_end(chat_id)
        while len(self._of_chats) > _CHATS:
            self._of_chats.popitem(last=False)
        return catalog.tools

    async def run(
        self,
        chat_id: ChatId,
        calls: Sequence[ToolCallPart],
        *,
        epoch: int = 0,
        result_bytes: int | None = None,
        finished: dict[str, ToolResultPart],
        on_progress: Callable[[ToolCallPart, CallProgress], None],
        hands_on: Callable[[], bool] = lambda: False,
        no_workspace_since: float = float("-inf"),
        first: bool = False,
        era: Era | None = None,
    ) -> None:
        """Run calls concurrently; one that crashes costs one error result.

        Args:
            chat_id: The chat.
            calls: Local calls, not yet answered.
            epoch: The id of the message that holds them: providers use call ids again.
            result_bytes: Of text and JSON that the model can take of one result; None: not known.
            finished: Gets each result as it arrives: what is there when this is cancelled, is what
                was finished.
            on_progress: Called for each progress report.
            hands_on: Asked when this is cancelled: whether somebody else asks for the same calls
                next. Their hosts then go on with them; otherwise they are told to stop.
            no_workspace_since: When the store has said, on the clock of this process, that the chat
                has no workspace.
            first: Nobody has asked for these calls before, and whoever does has stored them.
            era: When they were stored; None: before any of them might have begun.
        """
        turns = _Turns()
        # In call order: a call is held up by those before it alone.
        specs = [
            None if call.invalid is not None else await self._spec(chat_id, call.tool)
            for call in calls
        ]
        # One that changes something may give it one.
        only_read = all(spec is not None and spec.read_only for spec in specs)
        no_workspace = only_read and time.monotonic() - no_workspace_since < _STILL_SO_S
        async with asyncio.TaskGroup() as group:
            for call, spec in zip(calls, specs, strict=True):
                turn = turns.take(spec)
                before = before_on_screen(calls, call)
                request = CallTool(
                    chat_id,
                    call.call_id,
                    call.tool,
                    call.arguments,
                    epoch,
                    result_bytes=result_bytes,
                    no_workspace=no_workspace and turn.is_now,
                    first=first,
                    era=era,
                )
                work = self._run(request, call, spec, finished, on_progress, before, hands_on)
                group.create_task(_in_turn(turn, work))

    async def _run(
        self,
        request: CallTool,
        call: ToolCallPart,
        spec: ToolSpec | None,
        finished: dict[str, ToolResultPart],
        on_progress: Callable[[ToolCallPart, CallProgress], None],
        before: Sequence[str],
        hands_on: Callable[[], bool],
    ) -> None:
        if any((result := finished.get(each)) and result.is_error for each in before):
            finished[call.call_id] = error_result(call, NOT_EXECUTED)
            return
        try:
            finished[call.call_id] = await self._result(request, call, spec, on_progress)
        except asyncio.CancelledError:
            # The host goes on unless it is told; nobody waits for the answer.
            if not hands_on():
                self.stop(request.chat_id, call, request.epoch)
            raise

    def stop(self, chat_id: ChatId, call: ToolCallPart, epoch: int) -> None:
        """Tell the host of a call, wherever it runs, that nobody wants it any more."""
        request = CancelCall(chat_id, call.call_id, epoch)
        self._background.start(_quietly(self._rpc.call(CANCEL_CALL, request, deadline_s=5)))

    async def _result(
        self,
        request: CallTool,
        call: ToolCallPart,
        spec: ToolSpec | None,
        on_progress: Callable[[ToolCallPart, CallProgress], None],
    ) -> ToolResultPart:
        if call.invalid is not None:
            return error_result(call, f"the arguments are not a JSON object: {call.invalid[:500]}")
        if spec is None:
            names = ", ".join(tool.name for tool in self._catalog) or "none"
            return error_result(call, f"there is no tool {call.tool!r}; there are: {names}")
        try:
            result = await self._ask(request, spec, lambda frame: on_progress(call, frame))
        except SteersmanError as error:
            log.warning("tool.failed", tool=call.tool, error_code=error.code)
            if error.details.get("started") or isinstance(error, DeadlineExceeded):
                return error_result(call, _LOST)
            return error_result(call, f"the call could not be made: {error}")
        return ToolResultPart(
            call.call_id,
            call.tool,
            result.content,
            result.is_error,
            duration_ms=result.duration_ms,
            ends_turn=result.ends_turn,
        )

    async def _spec(self, chat_id: ChatId, name: str) -> ToolSpec | None:
        """A tool by name; the catalog is read again before it is said that there is none."""
        for known in (await self.catalog(), self._of_chats.get(chat_id, ())):
            for tool in known:
                if tool.name == name:
                    return tool
        await self._read()
        for tool in (*self._catalog, *await self.of_chat(chat_id)):
            if tool.name == name:
                return tool
        return None

    async def _ask(
        self, request: CallTool, spec: ToolSpec, on_progress: Callable[[CallProgress], None]
    ) -> CallResult:
        """Ask until there is a result, or nobody has answered for a while."""
        method = CALL_TOOL
        started = False
        end = time.monotonic() + spec.timeout_s + _GRACE_S
        until = time.monotonic() + _WAIT_FOR_HOST_S
        pause = 0.05
        while True:
            try:
                left_s = max(1.0, end - time.monotonic())
                return await self._ask_once(method, request, left_s, on_progress)
            except CallElsewhere as error:
                request = msgspec.structs.replace(request, first=False)
                # A host that has died keeps its calls until its lease ends: seconds.
                host = error.details.get("host")
                address = subjects.tool_host(host, CALL_TOOL.name) if host else None
                method, started = replace(CALL_TOOL, address=address), True
            except Unavailable as error:
                method = CALL_TOOL
                # Whoever has it may have begun, unless he says himself that he could not.
                first = request.first and bool(error.details.get(NOT_BOOKED))
                request = msgspec.structs.replace(request, no_workspace=False, first=first)
                if error.details.get("started"):
                    started = True
                    until = time.monotonic() + _WAIT_FOR_HOST_S
            if time.monotonic() + pause > min(until, end):
                raise Unavailable("no tools service answers", started=started)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    async def _ask_once(
        self,
        method: Method[CallTool, CallResult],
        request: CallTool,
        deadline_s: float,
        on_progress: Callable[[CallProgress], None],
    ) -> CallResult:
        ask = _Ask()

        def on_frame(frame: CallProgress) -> None:
            if frame.host:
                ask.host = frame.host
            if frame.seq:
                on_progress(frame)

        stream = self._rpc.stream(
            method, request, CallProgress, deadline_s=deadline_s, first_frame_s=_FIRST_FRAME_S
        )
        async with self._looked_after(ask):
            reply = asyncio.ensure_future(last_reply(stream, CallResult, on_frame))
            lost = asyncio.ensure_future(ask.lost.wait())
            try:
                await asyncio.wait({reply, lost}, return_when=asyncio.FIRST_COMPLETED)
                if reply.done():
                    return reply.result()
                raise _HostLost("the host of the call does not answer", started=True)
            finally:
                lost.cancel()
                reply.cancel()
                with suppress(asyncio.CancelledError, SteersmanError):
                    await reply

    @asynccontextmanager
    async def _looked_after(self, ask: _Ask) -> AsyncGenerator[None]:
        self._asks.add(ask)
        if self._watching is None:
            self._watching = self._background.start(self._watch(), name="tool-hosts")
        try:
            yield
        finally:
            self._asks.discard(ask)

    async def _watch(self) -> None:
        """Ping the hosts that run calls: a stream alone would tell after ten seconds of silence."""
        try:
            while self._asks:
                await asyncio.sleep(_PING_S)
                hosts = {ask.host for ask in self._asks if ask.host}
                await asyncio.gather(*(self._ping(host) for host in hosts))
        finally:
            self._watching = None

    async def _ping(self, host: str) -> None:
        method = replace(PING_HOST, address=subjects.tool_host(host, PING_HOST.name))
        try:
            await self._rpc.call(method, PingHost())
        except SteersmanError as error:
            log.warning("tools.host_lost", host=host, error_code=error.code)
            for ask in self._asks:
                if ask.host == host:
                    ask.lost.set()


def before_on_screen(calls: Sequence[ToolCallPart], call: ToolCallPart) -> Sequence[str]:
    """The calls of the computer tool before this one, which aims at the screen that they leave."""
    if call.tool != COMPUTER:
        return ()
    earlier = calls[: next(i for i, each in enumerate(calls) if each is call)]
    return [each.call_id for each in earlier if each.tool == COMPUTER]


class _Turns:
    """The order of the calls of one step: exclusive ones alone, and no more of a tool than may.

    The chat has one owner, so this holds over all hosts; a host keeps to it among its own as well.
    """

    def __init__(self) -> None:
        self._all: list[asyncio.Event] = []
        self._exclusive: asyncio.Event | None = None
        self._limits: dict[str, asyncio.Semaphore] = {}

    def take(self, spec: ToolSpec | None) -> _Turn:
        """The turn of the next call."""
        done = asyncio.Event()
        if spec is None:
            done.set()
            return _Turn((), None, done)
        before: tuple[asyncio.Event, ...] = ()
        if spec.exclusive:
            before = tuple(self._all)
            self._exclusive = done
        elif self._exclusive is not None:
            before = (self._exclusive,)
        self._all.append(done)
        limit: asyncio.Semaphore | None = None
        if spec.max_per_chat is not None:
            limit = self._limits.setdefault(spec.name, asyncio.Semaphore(spec.max_per_chat))
        return _Turn(before, limit, done)


@dataclass(frozen=True, slots=True)
class _Turn:
    before: tuple[asyncio.Event, ...]
    limit: asyncio.Semaphore | None
    done: asyncio.Event

    @property
    def is_now(self) -> bool:
        """Whether it waits for no other call."""
        return not self.before and self.limit is None


async def _in_turn(turn: _Turn, work: Awaitable[Any]) -> None:
    try:
        for event in turn.before:
            await event.wait()
        async with AsyncExitStack() as stack:
            if turn.limit is not None:
                await stack.enter_async_context(turn.limit)
            await work
    finally:
        turn.done.set()
        if asyncio.iscoroutine(work):
            work.close()  # cancelled before its turn came


async def _quietly(call: Awaitable[object]) -> None:
    try:
        await call
    except SteersmanError as error:
        log.debug("tool.cancel_lost", error_code=error.code)
