"""One chat while this process owns it: streams steps, runs tools, commits, until the chat rests.

`decide` says what is next; this is the shell around it. What people ask for meanwhile (an
interrupt, a deletion) arrives through `interrupt` and `lose`, which end the running work; what was
produced by then is saved by one path, whatever ended it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Histogram

from steersman_chatloop import prompt
from steersman_chatloop.decide import (
    CallModel,
    FinishTurn,
    RunTools,
    after_boundary,
    decide,
    error_result,
    local_calls,
)
from steersman_chatloop.episode import Episode
from steersman_chatloop.history import History
from steersman_chatloop.oversize import fit
from steersman_chatloop.providers.base import ProviderFailed, StepEnded, StepRequest
from steersman_chatloop.providers.registry import Providers
from steersman_chatloop.retries import delay_s
from steersman_chatloop.settings import Settings
from steersman_chatloop.toolbox import INTERRUPTED, Toolbox
from steersman_contracts import subjects
from steersman_contracts.chats import ChatError, Outcome, Role, Status, StopReason
from steersman_contracts.deltas import PartClosed, PartsBuilder
from steersman_contracts.errors import (
    AlreadyOwned,
    DeadlineExceeded,
    NotFound,
    PayloadTooLarge,
    StaleFence,
    SteersmanError,
    TransitionRefused,
    Unavailable,
)
from steersman_contracts.events import EVENT_HEADER, ToolProgress
from steersman_contracts.ids import RunnerId
from steersman_contracts.parts import Part, Parts, ToolCallPart, ToolResultPart
from steersman_contracts.rpc import Method
from steersman_contracts.rpc import worker as rpc
from steersman_contracts.rpc.tools import CallProgress, ToolSpec
from steersman_runtime.episodes import read_episode
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import NatsClient, encode_headers
from steersman_runtime.rpc import RpcClient

log = structlog.stdlib.get_logger()

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")

DEFAULT_SYSTEM: Final = "You are a helpful assistant."
_LONGEST_PAUSE_S: Final = 2.0
_ENVELOPE: Final = 64 * 1024
"""Bytes of a write beside its messages."""

TURNS = Counter("steersman_turns", "Turns that ended", ["outcome"])
TURN_SECONDS = Histogram(
    "steersman_turn_seconds",
    "Seconds from taking a chat to its rest",
    buckets=(0.1, 1, 10, 60, 600),
)
RETRIES = Counter("steersman_model_retries", "Model calls that are tried again", ["kind"])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every turn needs."""

    client: NatsClient
    rpc: RpcClient
    publisher: Publisher
    providers: Providers
    toolbox: Toolbox
    settings: Settings
    runner_id: RunnerId


class _LostError(Exception):
    """The chat is no longer ours; nothing may be written any more."""


class _Attempt:
    """One model attempt: what has arrived so far."""

    def __init__(self) -> None:
        self.builder = PartsBuilder()
        self.episode: Episode | None = None
        self.number = 0
        self.ended: StepEnded | None = None
        self.failed: ProviderFailed | None = None


class ChatRun:
    """Works on one owned chat until it rests, is lost, or is handed over."""

    def __init__(self, around: Surroundings, context: rpc.OwnedChat, history: History) -> None:
        self._around = around
        self.chat = context
        self.history = history
        self._work: asyncio.Task[Any] | None = None
        self._released = False
        self._lost = False
        self._interrupted = False
        self._draining = False
        self._hurried = False
        self._tools: tuple[ToolSpec, ...] | None = None

    # -- what others tell it ---------------------------------------------------------------------

    def interrupt(self) -> None:
        """A person wants the turn to end; what was produced is kept."""
        self._interrupted = True
        self._stop_work()

    def lose(self) -> None:
        """The chat belongs to somebody else, or is gone."""
        self._lost = True
        self._stop_work()

    def drain(self, *, at_once: bool) -> None:
        """Hand the chat over: at the next step, or at once (the running step is then repeated)."""
        self._draining = True
        if at_once:
            self._hurried = True
            self._stop_work()

    def _stop_work(self) -> None:
        if self._work is not None:
            self._work.cancel()

    # -- the loop --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go on until the chat rests or is no longer ours."""
        started = time.monotonic()
        try:
            while not self._released:
                await self._advance()
        except _LostError:
            log.info("turn.lost")
        except SteersmanError as error:
            await self._give_up(error)
        except Exception as error:  # noqa: BLE001  # the worker lives on, the chat says what happened
            await self._give_up(error)
        finally:
            TURN_SECONDS.observe(time.monotonic() - started)

    async def _advance(self) -> None:
        if self._lost:
            raise _LostError
        if self.chat.status is Status.INTERRUPTING or self._interrupted:
            self._interrupted = False
            await self._finish_interruption(await self._left_behind())
            return
        if self._draining:
            await self._hand_over()
            return
        match decide(
            after_boundary(self.history.messages),
            steps=self.chat.steps,
            max_steps=self._around.settings.max_steps,
        ):
            case CallModel():
                await self._step()
            case RunTools(calls):
                await self._run_tools(calls)
            case FinishTurn(outcome, unanswered):
                results = _tool_message(unanswered, {}, "not run: the model had stopped")
                await self._finish_turn(results, outcome)

    # -- a step ----------------------------------------------------------------------------------

    async def _step(self) -> None:
        failures = 0
        while True:
            attempt = _Attempt()
            finished = await self._interruptible(self._stream(attempt))
            if not finished:
                await self._save_partial(attempt)
                return
            if attempt.failed is None:
                await self._commit_step(attempt)
                return
            failures += 1
            error = attempt.failed.error
            if not error.retryable or failures >= self._around.settings.max_attempts:
                await self._finish_error(error, attempt)
                return
            wait = delay_s(failures, attempt.failed.retry_after_s)
            RETRIES.labels(error.kind).inc()
            log.info("attempt.failed", attempt=attempt.number, kind=error.kind, retry_in_s=wait)
            await self._record_retry(attempt, error, wait)
            if not await self._interruptible(asyncio.sleep(wait)):
                return

    async def _stream(self, attempt: _Attempt) -> None:
        """Stream one attempt. The provider is called while the store opens the episode."""
        begun = asyncio.get_running_loop().create_task(self._begin_attempt())
        try:
            request = await self._request()
            async with aclosing(self._around.providers.stream(request)) as events:
                async for event in events:
                    if attempt.episode is None:
                        attempt.number = await begun
                        attempt.episode = self._open_episode(attempt.number)
                    if isinstance(event, StepEnded):
                        attempt.ended = event
                        continue
                    attempt.builder.apply(event)
                    if not isinstance(event, PartClosed):
                        attempt.episode.add(event)
            attempt.number = await begun
        except ProviderFailed as error:
            attempt.failed = error
            attempt.number = await begun
        finally:
            begun.cancel()
            with suppress(asyncio.CancelledError, SteersmanError, _LostError):
                await begun

    async def _request(self) -> StepRequest:
        model = self.chat.model
        if self._tools is None:
            self._tools = await self._offered_tools() if model.tools else ()
        return StepRequest(
            chat_id=self.chat.chat_id,
            model=model,
            system=self.chat.system_prompt or DEFAULT_SYSTEM,
            messages=prompt.prepare(after_boundary(self.history.messages)),
            tools=self._tools,
        )

    async def _offered_tools(self) -> tuple[ToolSpec, ...]:
        """The server's tools and the client's; a client's tool hides one of the same name."""
        client = tuple(
            ToolSpec(tool.name, tool.description, tool.input_schema, plugin="client")
            for tool in self.chat.client_tools
        )
        hidden = {tool.name for tool in client}
        catalog = await self._around.toolbox.catalog()
        return (*(tool for tool in catalog if tool.name not in hidden), *client)

    async def _begin_attempt(self) -> int:
        if self.chat.begun:  # by the transition that brought us here
            attempt = self.chat.generation_attempt
        else:
            reply = await self._ask(rpc.BEGIN_ATTEMPT, rpc.BeginAttempt(self._fence()))
            attempt = reply.attempt
        # What a dead worker had streamed is superseded by this attempt.
        self.chat = msgspec.structs.replace(self.chat, attempt_started_at=None, begun=False)
        return attempt

    def _open_episode(self, attempt: int) -> Episode:
        return Episode(
            self._around.publisher,
            self.chat.chat_id,
            history_version=self.chat.history_version,
            attempt=attempt,
            interval_s=self._around.settings.delta_interval_s,
        )

    async def _commit_step(self, attempt: _Attempt) -> None:
        await _flush(attempt)
        ended = attempt.ended
        assert ended is not None  # the registry turns a stream without an end into a failure
        parts = attempt.builder.parts()
        message = self._assistant(parts, ended.stop, ended)
        calls = local_calls(parts)
        if calls or ended.stop == "pause":
            begin = not calls  # a pause: the model goes on
            await self._commit(
                rpc.COMMIT_STEP, (message,), lambda f, m: rpc.CommitStep(f, m, begin)
            )
        else:
            await self._finish_turn((message,), "completed")

    def _assistant(
        self, parts: Parts, stop: StopReason, ended: StepEnded | None = None
    ) -> rpc.NewMessage:
        return rpc.NewMessage(
            Role.ASSISTANT,
            parts,
            model=self.chat.model.name,
            usage=ended.usage if ended is not None else None,
            stop=stop,
        )

    async def _record_retry(self, attempt: _Attempt, error: ChatError, wait_s: float) -> None:
        delay_ms = round(wait_s * 1000)
        with self._own_changes():
            await self._ask(
                rpc.RECORD_RETRY,
                rpc.RecordRetry(self._fence(), attempt.number, delay_ms, error),
            )

    # -- tools -----------------------------------------------------------------------------------

    async def _run_tools(self, calls: Sequence[ToolCallPart]) -> None:
        results: dict[str, ToolResultPart] = {}
        seqs: dict[str, int] = {}

        def on_progress(call: ToolCallPart, frame: CallProgress) -> None:
            seqs[call.call_id] = seqs.get(call.call_id, 0) + 1
            self._publish_progress(call, frame.text, seqs[call.call_id])

        of_client = {tool.name for tool in self.chat.client_tools}
        ours = tuple(call for call in calls if call.tool not in of_client or call.invalid)
        work = self._around.toolbox.run(
            self.chat.chat_id,
            ours,
            epoch=self._calls_message(),
            finished=results,
            on_progress=on_progress,
        )
        if await self._interruptible(work):
            if len(ours) < len(calls):
                await self._wait_for_client(calls, results)
                return
            messages = _tool_message(calls, results, INTERRUPTED)
            await self._commit(
                rpc.COMMIT_STEP, messages, lambda f, m: rpc.CommitStep(f, m, begin=True)
            )
        elif self._interrupted:
            self._interrupted = False
            await self._finish_interruption(_tool_message(calls, results, INTERRUPTED))

    def _calls_message(self) -> int:
        """The message whose calls are open: the same for every worker that runs them."""
        messages = reversed(self.history.messages)
        return next((m.id for m in messages if m.role is Role.ASSISTANT and not m.deleted), 0)

    async def _wait_for_client(
        self, calls: Sequence[ToolCallPart], results: dict[str, ToolResultPart]
    ) -> None:
        """Pause the chat until the client has answered; nobody owns it meanwhile."""
        done = tuple(results.values())
        expires_s = self._around.settings.action_timeout_s
        await self._commit(
            rpc.ENTER_REQUIRES_ACTION,
            _tool_message(calls, results, INTERRUPTED),  # stored only if an interrupt came first
            lambda f, _: rpc.EnterRequiresAction(f, tuple(calls), done, expires_s),
        )

    def _publish_progress(self, call: ToolCallPart, text: str, seq: int) -> None:
        chat_id = self.chat.chat_id
        event = ToolProgress(
            chat_id=chat_id,
            history_version=self.chat.history_version,
            call_id=call.call_id,
            tool=call.tool,
            seq=seq,
            text=text,
        )
        headers = encode_headers(
            {
                "ce-specversion": "1.0",
                EVENT_HEADER: event.name,
                "ce-source": f"/chats/{chat_id}",
                "ce-id": f"{call.call_id}.{seq}",
            }
        )
        with suppress(SteersmanError):  # progress may be skipped without loss
            done = self._around.publisher.publish(
                subjects.chat_events(chat_id), msgspec.json.encode(event), headers=headers
            )
            done.add_done_callback(lambda future: future.cancelled() or future.exception())

    # -- ends ------------------------------------------------------------------------------------

    async def _finish_turn(self, messages: tuple[rpc.NewMessage, ...], outcome: Outcome) -> None:
        await self._commit(
            rpc.FINISH_TURN,
            messages,
            lambda f, m: rpc.FinishTurn(f, m, outcome, begin=True),
            ends=outcome,
        )

    async def _save_partial(self, attempt: _Attempt) -> None:
        """The step was ended from outside: keep what arrived, if it is still ours to keep."""
        await _flush(attempt)
        if self._interrupted and not self._lost:
            self._interrupted = False
            await self._finish_interruption(self._partial(attempt, "interrupted"))

    async def _left_behind(self) -> tuple[rpc.NewMessage, ...]:
        """What a turn that is to be interrupted has left: by us, or by a worker that died.

        People have seen what a dead worker streamed, so it is read back from the event log. What
        the provider wants back of it died with the worker, and is never sent.
        """
        chat = self.chat
        if chat.attempt_started_at is None or chat.generation_attempt == 0:
            return self._close_open_calls()
        try:
            preview = await read_episode(
                self._around.client,
                chat.chat_id,
                history_version=chat.history_version,
                attempt=chat.generation_attempt,
                began_at=chat.attempt_started_at,
            )
        except SteersmanError as error:
            log.warning("episode.not_read", error_code=error.code)
            preview = None
        if preview is None:
            return self._close_open_calls()
        log.info("episode.recovered", seq=preview.seq)
        return self._as_partial(preview.parts, "interrupted")

    def _partial(self, attempt: _Attempt, stop: StopReason) -> tuple[rpc.NewMessage, ...]:
        return self._as_partial(attempt.builder.parts(), stop)

    def _as_partial(self, parts: Parts, stop: StopReason) -> tuple[rpc.NewMessage, ...]:
        """A step that did not end: its calls are closed, so that the history stays whole."""
        if not parts:
            return ()
        message = self._assistant(parts, stop)
        return (message, *_tool_message(local_calls(parts), {}, INTERRUPTED))

    def _close_open_calls(self) -> tuple[rpc.NewMessage, ...]:
        """Results for calls of the last stored step that have none."""
        match decide(after_boundary(self.history.messages), steps=0, max_steps=1):
            case RunTools(calls) | FinishTurn(_, calls):
                return _tool_message(calls, {}, INTERRUPTED)
            case _:
                return ()

    async def _finish_interruption(self, messages: tuple[rpc.NewMessage, ...]) -> None:
        if self.chat.status is not Status.INTERRUPTING:
            # The control message was faster than any reply of the store.
            self.chat = msgspec.structs.replace(self.chat, status=Status.INTERRUPTING)
        await self._commit(
            rpc.FINISH_INTERRUPTION,
            messages,
            lambda f, m: rpc.FinishInterruption(f, m),
            ends="interrupted",
        )

    async def _finish_error(self, error: ChatError, attempt: _Attempt | None = None) -> None:
        messages = self._close_open_calls()
        if attempt is not None:
            await _flush(attempt)
            messages = self._partial(attempt, "unknown")
        log.info("turn.errored", kind=error.kind, provider=error.provider)
        await self._commit(
            rpc.FINISH_ERROR, messages, lambda f, m: rpc.FinishError(f, error, m), ends="error"
        )

    async def _give_up(self, error: Exception) -> None:
        """Something of ours broke: the chat must not look as if it still ran."""
        log.error("turn.failed", exc_info=error)
        failure = ChatError("generic", "Something went wrong on our side.", type(error).__name__)
        try:
            if self.chat.status is Status.INTERRUPTING:  # only its own end leads out of there
                await self._finish_interruption(self._close_open_calls())
            else:
                await self._finish_error(failure)
        except Exception as again:  # the lease expires and another worker tries
            log.error("turn.not_closed", exc_info=again)  # noqa: TRY400  # it has the error

    async def _hand_over(self) -> None:
        with suppress(SteersmanError):  # the lease ends by itself
            await self._around.rpc.call(
                rpc.ABANDON, rpc.Abandon(self.chat.chat_id, self._around.runner_id), deadline_s=2
            )
        log.info("turn.handed_over")
        self._released = True

    # -- talking to the store --------------------------------------------------------------------

    def _fence(self) -> rpc.Fence:
        chat = self.chat
        return rpc.Fence(chat.chat_id, self._around.runner_id, chat.history_version, chat.status)

    async def _ask(self, method: Method[Q, R], request: Q) -> R:
        """Call the store until it answers: an outage pauses a turn, it does not end it.

        A repeated write is harmless: the fence refuses it if the first one took effect.
        """
        pause = 0.05
        while True:
            if self._lost:
                raise _LostError
            try:
                return await self._around.rpc.call(method, request)
            except (Unavailable, DeadlineExceeded) as error:
                if self._hurried:
                    raise _LostError from error
                log.warning("store.unavailable", method=method.name, error_code=error.code)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _commit(
        self,
        method: Method[Any, rpc.Committed],
        messages: tuple[rpc.NewMessage, ...],
        request: Callable[[rpc.Fence, tuple[rpc.NewMessage, ...]], msgspec.Struct],
        *,
        ends: Outcome | None = None,
    ) -> None:
        """Write what was produced; the reply is the chat as it is now."""
        try:
            committed = await self._write(method, messages, request)
        except StaleFence as stale:
            await self._after_stale(stale, messages)
            return
        self.chat = committed.chat
        self.history.apply(committed.messages)
        self._released = committed.released
        if ends is not None:
            self._tools = None
            TURNS.labels(ends).inc()
            log.info("turn.finished", outcome=ends, steps=committed.chat.steps)

    async def _write(
        self,
        method: Method[Any, rpc.Committed],
        messages: tuple[rpc.NewMessage, ...],
        request: Callable[[rpc.Fence, tuple[rpc.NewMessage, ...]], msgspec.Struct],
    ) -> rpc.Committed:
        try:
            return await self._ask(method, request(self._fence(), messages))
        except PayloadTooLarge as error:
            log.warning("step.cut", limit=error.details["limit"])
            cut = fit(messages, error.details["limit"] - _ENVELOPE)
            return await self._ask(method, request(self._fence(), cut))

    async def _after_stale(self, stale: StaleFence, messages: tuple[rpc.NewMessage, ...]) -> None:
        """The chat is not what we believed. Keep the work if only an interrupt came between."""
        details = stale.details
        interrupted = (
            details.get("owned")
            and details.get("status") == Status.INTERRUPTING
            and details.get("history_version") == self.chat.history_version
            and self.chat.status is Status.RUNNING
        )
        if interrupted:
            self._interrupted = False
            await self._finish_interruption(_answered(messages))
            return
        if not details.get("owned"):
            raise _LostError from stale
        await self._reload()

    async def _reload(self) -> None:
        """Look at the chat again, as its owner: an earlier write may have taken effect unseen."""
        request = rpc.Acquire(
            self.chat.chat_id,
            self._around.runner_id,
            self._around.settings.lease_s,
            self.history.revision,
        )
        try:
            context = await self._ask(rpc.ACQUIRE, request)
        except (TransitionRefused, AlreadyOwned, NotFound) as error:
            raise _LostError from error
        self.chat = context.chat
        await load(self._around, self.history, context)

    def _own_changes(self) -> suppress:
        """A fenced write that only informs: when it is stale, the next one will say so."""
        return suppress(StaleFence)

    async def _interruptible(self, work: Coroutine[Any, Any, object]) -> bool:
        """Run work that `interrupt`, `lose` and a hurried `drain` end.

        Returns:
            Whether it ran to its end.
        """
        if self._interrupted or self._lost or self._hurried:
            work.close()
            return False
        self._work = asyncio.get_running_loop().create_task(work)
        try:
            await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        except StaleFence as stale:
            await self._after_stale(stale, ())
            return False
        finally:
            self._work = None
        return True


async def load(around: Surroundings, history: History, context: rpc.WorkContext) -> None:
    """Take in the messages of a context, and page through the rest if they did not fit."""
    history.apply(context.messages)
    page_messages, complete = context.messages, context.complete
    while not complete:
        last = page_messages[-1]
        page = await around.rpc.call(
            rpc.LOAD_HISTORY,
            rpc.LoadHistory(context.chat.chat_id, around.runner_id, (last.revision, int(last.id))),
        )
        history.apply(page.messages)
        page_messages, complete = page.messages, page.complete
        if not page_messages:
            return


async def _flush(attempt: _Attempt) -> None:
    if attempt.episode is not None:
        await attempt.episode.flush()


def _tool_message(
    calls: Sequence[ToolCallPart], results: dict[str, ToolResultPart], otherwise: str
) -> tuple[rpc.NewMessage, ...]:
    """The results of calls, in call order; those that have none get an error."""
    if not calls:
        return ()
    parts: tuple[Part, ...] = tuple(
        results.get(call.call_id) or error_result(call, otherwise) for call in calls
    )
    return (rpc.NewMessage(Role.TOOL, parts),)


def _answered(messages: tuple[rpc.NewMessage, ...]) -> tuple[rpc.NewMessage, ...]:
    """Messages that can end a turn: a step that still asks for tools gets error results."""
    if not messages or messages[-1].role is not Role.ASSISTANT:
        return messages
    return (*messages, *_tool_message(local_calls(messages[-1].parts), {}, INTERRUPTED))
