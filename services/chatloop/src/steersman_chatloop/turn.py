"""One chat while this process owns it: streams steps, runs tools, commits, until the chat rests.

`decide` says what is next; this is the shell around it. What people ask for meanwhile (an
interrupt, a deletion) arrives through `steering`, which ends the running work; what was produced
by then is saved by one path, whatever ended it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec
import structlog
from prometheus_client import Counter, Histogram

from steersman_chatloop import answers
from steersman_chatloop.ahead import Commit, Overtaken, foreseen, is_as_foreseen, may_go_ahead
from steersman_chatloop.answering import Answering
from steersman_chatloop.attempt import Attempt
from steersman_chatloop.claim import Claim
from steersman_chatloop.compaction import (
    NO_ROOM,
    Window,
    can_be_summarised,
    context_tokens,
    holds_only_a_summary,
    last_usage,
    window_of,
)
from steersman_chatloop.decide import (
    CallModel,
    Compact,
    Compaction,
    Decision,
    Fail,
    FinishTurn,
    Pause,
    Remind,
    RunTools,
    decide,
    is_for_model,
    local_calls,
)
from steersman_chatloop.episode import Episode
from steersman_chatloop.failures import give_up
from steersman_chatloop.history import History
from steersman_chatloop.left_behind import left_behind
from steersman_chatloop.loop_guard import NOTICE, Guard
from steersman_chatloop.offers import chat_tools_of
from steersman_chatloop.partial import (
    INTERRUPTED,
    NewMessages,
    open_calls,
    tool_message,
    unanswered_calls,
    with_closed_calls,
)
from steersman_chatloop.providers.base import ProviderFailed, StepEnded, StepNamed, StepRequest
from steersman_chatloop.requests import Requests
from steersman_chatloop.restating import plan_in, restate
from steersman_chatloop.retries import MOST_S, delay_s
from steersman_chatloop.steering import LostError, Steering
from steersman_chatloop.step_calls import StepCalls, patience_s
from steersman_chatloop.summarising import COMPACTIONS, Begin, Summariser
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.chats import (
    ChatError,
    Message,
    Outcome,
    Role,
    Status,
    StopReason,
    Usage,
    Visibility,
)
from steersman_contracts.deltas import PartClosed
from steersman_contracts.errors import StaleFence, SteersmanError
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import JsonObject, Parts, TextPart, ToolCallPart
from steersman_contracts.rpc import worker as rpc
from steersman_contracts.rpc.worker import ModelAccess

log = structlog.stdlib.get_logger()

_MOST_REENTRIES: Final = 3
"""How often in one turn the model is called again after it had finished, for a summary's sake."""
_ANSWERED: Final = frozenset({"end", "stop-sequence", "unknown"})
"""Stops after which what was said is the answer."""
_PAUSE_STEPS: Final = 5
"""Steps after a summary that failed, before another one is tried."""

_NEVER_ENDED: Final = ChatError(
    "generic", "The model was called again and again, and never came to an end.", retryable=True
)

TURN_SECONDS = Histogram(
    "steersman_turn_seconds",
    "Seconds from taking a chat to its rest",
    buckets=(0.1, 1, 10, 60, 600),
)
RETRIES = Counter("steersman_model_retries", "Model calls that are tried again", ["kind"])


class ChatRun:
    """Works on one owned chat until it rests, is lost, or is handed over."""

    def __init__(
        self,
        around: Surroundings,
        chat: rpc.OwnedChat,
        history: History,
        *,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        """Work on a chat that is ours.

        Args:
            around: What every turn needs.
            chat: The chat, as `acquire` gave it.
            history: Its messages, all of them.
            crowded: Whether other chats may be waiting for room here.
        """
        self._around = around
        self._crowded = crowded
        self.steering = Steering()
        self._claim = Claim(around, chat, history, self.steering)
        self._requests = Requests(around, self._claim)
        self._answering = Answering(chat.model)
        self._in_turn = 0
        self._reentries = 0
        self._repairs = 0
        """How often this turn's answer was asked for again: a summary takes the notes along."""
        self._no_summary_before = 0
        """The step of this turn before which no other summary is tried."""
        self._running: Attempt | StepCalls | None = None
        """What runs, or ran last, and is not stored as long as the history is `_runs_after`."""
        self._runs_after = 0

    @property
    def whole(self) -> bool:
        """Whether all of the history was read that there is."""
        return self._claim.whole

    @property
    def chat(self) -> rpc.OwnedChat:
        """The chat as it was after the last write."""
        return self._claim.chat

    # -- the loop --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go on until the chat rests or is no longer ours."""
        started = time.monotonic()
        try:
            while not self._claim.released and await self._goes_on():
                pass
        except LostError:
            log.info("turn.lost")
        finally:
            TURN_SECONDS.observe(time.monotonic() - started)

    async def _goes_on(self) -> bool:
        """One step on; whatever breaks in it ends the turn, and the worker lives on."""
        try:
            await self._advance()
        except LostError:
            raise
        except Exception as error:  # the chat says what happened
            log.error("turn.failed", exc_info=error)  # noqa: TRY400  # it has the error
            return await give_up(self._claim, error, (self._unsaved, self._open_calls, _nothing))
        return True

    async def _advance(self) -> None:
        if self.steering.lost:
            raise LostError
        if self.chat.status is Status.INTERRUPTING or self.steering.interrupted:
            self.steering.interrupted = False
            await self._claim.finish_interruption(await self._left_behind())
            return
        if self.steering.draining or (self._begins_turn() and self._crowded()):
            await self._claim.hand_over()
            return
        match self._decide(self._for_model()):
            case CallModel():
                await self._step()
            case Compact() as wanted:
                await self._compact(wanted)
            case Fail(error):
                await self._finish_error(error)
            case RunTools(calls):
                await self._run_tools(calls)
            case Remind():
                note = rpc.NewMessage(Role.USER, (TextPart(NOTICE),), Visibility.MODEL)
                log.info("turn.circles", steps=self.chat.steps)
                await self._claim.commit_step((note,), begin=True)
            case Pause(reached):
                await self._claim.pause(reached)
            case FinishTurn(outcome, unanswered):
                results = tool_message(unanswered, {}, "not run: the model had stopped")
                await self._finish_turn(results, outcome)

    def _begins_turn(self) -> bool:
        """Whether a queued message was promoted, and its turn is still to begin."""
        return self._in_turn != self._claim.turns_ended

    async def _finish_turn(self, messages: NewMessages, outcome: Outcome) -> None:
        # Where chats wait for room, the next turn of this one waits behind them.
        await self._claim.finish_turn(messages, outcome, begin=not self._crowded())

    def _decide(self, messages: Sequence[Message]) -> Decision:
        chat, settings = self.chat, self._around.settings
        if self._in_turn != self._claim.turns_ended:
            self._in_turn, self._reentries, self._no_summary_before = self._claim.turns_ended, 0, 0
            self._repairs = 0
            self._around.contexts.forget(chat.chat_id)
            self._answering = Answering(chat.model)
        elif not self._answering.is_for(chat.model):
            self._answering = Answering(chat.model)  # a person has chosen another one
        compaction = Compaction(
            self._window(),
            chat.compaction_requested,
            may_start=chat.steps >= self._no_summary_before,
            may_reenter=self._reentries < _MOST_REENTRIES,
        )
        return decide(
            messages,
            steps=chat.steps,
            max_steps=settings.max_steps,
            compaction=compaction,
            guard=Guard(settings.loop_notice_after, settings.loop_end_after),
            reached=chat.terms.reached,
        )

    def _for_model(self) -> Sequence[Message]:
        """What of the history the model may see."""
        return self._claim.history.for_model

    # -- a step ----------------------------------------------------------------------------------

    async def _step(self, results: NewMessages = ()) -> None:
        """Ask the model until it has answered.

        Args:
            results: Of tools, to be stored while the model is asked about them.
        """
        failures, most = 0, self._around.settings.max_attempts
        repeated = False
        if self.chat.generation_attempt - self.chat.begun >= most and not results:
            # By workers that are gone. Perhaps it is what ends them; it is to end no more.
            await self._finish_error(_NEVER_ENDED)
            return
        while True:
            attempt = Attempt()
            if results:
                finished = await self._ask_ahead(attempt, results)
                if finished is None:
                    return
                results = ()
            else:
                self._running, self._runs_after = attempt, self.chat.history_version
                asking = self._stream_step(attempt, self._for_model(), self._claim.begin_attempt)
                finished = await self._interruptible(asking)
            if not finished:
                await self._save_partial(attempt)
                return
            if attempt.failed is None:
                await self._commit_step(attempt)
                return
            failures += 1
            asked, failed, wait = self._answering.model.name, attempt.failed, 0.0
            if failed.once and not repeated:
                repeated = True
                RETRIES.labels(failed.error.kind).inc()
                log.info("attempt.repeated", attempt=attempt.number, kind=failed.error.kind)
            elif not await self._another_model(failed.error):
                wait = delay_s(failures, failed.retry_after_s)
                helps = failed.error.retryable and failures < most and wait <= MOST_S
                if await self._ends_with(attempt, failed.error, helps=helps):
                    return
                RETRIES.labels(failed.error.kind).inc()
                log.info(
                    "attempt.failed",
                    attempt=attempt.number,
                    kind=failed.error.kind,
                    retry_in_s=wait,
                )
            await self._count(attempt, asked)
            await self._claim.record_retry(attempt.number, failed.error, wait)
            if wait:
                if not await self._interruptible(asyncio.sleep(wait)):
                    return
                await self._look_again()

    async def _ends_with(self, attempt: Attempt, error: ChatError, *, helps: bool) -> bool:
        """See to an attempt that failed, unless it `helps` to try again after a while.

        Returns:
            Whether the step is over: it made room, or ended the turn.
        """
        if error.kind == "context_overflow" and can_be_summarised(self._for_model()):
            if holds_only_a_summary(self._for_model()):  # another one would be as long
                await self._finish_error(NO_ROOM, attempt)
            else:
                await self._count(attempt, self._answering.model.name)
                await self._compact(Compact("automatic"), overflow=attempt)
            return True
        if not helps:
            await self._finish_error(error, attempt)
        return not helps

    async def _count(self, attempt: Attempt, asked: ModelName) -> None:
        """Book what an attempt has used of which nothing is stored: no message will say so."""
        if (used := attempt.to_count(self.chat, "attempt", asked)) is not None:
            await self._claim.count(used)

    async def _ask_ahead(self, attempt: Attempt, results: NewMessages) -> bool | None:
        """Store the results of tools, and ask the model about them meanwhile.

        Returns:
            Whether the model has answered, as `_interruptible`; None if what is stored now asks for
            something else.
        """
        before, messages = self.chat, foreseen(self._for_model(), results)

        def holds() -> bool:
            stored = self._claim.history.messages[-len(results) :]
            return is_as_foreseen(before, self.chat, results, stored)

        commit = Commit(self._claim.commit_step(results, begin=True), holds)

        async def begin() -> int:
            await commit.foreseen()
            self._running, self._runs_after = attempt, self.chat.history_version
            return await self._claim.begin_attempt()

        finished = False
        try:
            asking = commit.beside(lambda: self._stream_step(attempt, messages, begin))
            finished = await self._interruptible(asking)
        except Overtaken:
            log.info("step.overtaken")
        except asyncio.CancelledError:
            commit.cancel()
            raise
        finally:
            holds_on = await commit.outcome()
        return finished if holds_on else None

    async def _stream_step(
        self, attempt: Attempt, messages: Sequence[Message], begin: Begin
    ) -> None:
        try:
            request = await self._requests.step(self._answering.model, messages)
        except ProviderFailed as error:  # a file cannot be read now: tried again like any other
            attempt.number, attempt.failed = await begin(), error
            return
        await self._stream(attempt, request, begin)

    async def _stream(self, attempt: Attempt, request: StepRequest, begin: Begin) -> None:
        """Stream one attempt. The provider is called while the store opens the episode."""
        begun = asyncio.get_running_loop().create_task(begin())
        try:
            async with aclosing(self._around.providers.stream(request)) as events:
                async for event in events:
                    if attempt.episode is None:
                        attempt.number = await begun
                        attempt.episode = self._open_episode(attempt.number)
                    attempt.take(event)
                    if isinstance(event, StepNamed):
                        attempt.episode.name(attempt.response_id)
                    elif not isinstance(event, PartClosed | StepEnded):
                        attempt.episode.add(event)
            attempt.number = await begun
        except ProviderFailed as error:
            attempt.failed = error
            attempt.number = await begun
        finally:
            begun.cancel()
            with suppress(asyncio.CancelledError, SteersmanError, LostError, Overtaken):
                await begun

    async def _another_model(self, error: ChatError) -> bool:
        """Let a fallback take over, if it is time for that and one can be reached."""
        while (name := self._answering.after(error)) is not None:
            access = await self._claim.access_to(name)
            if access is not None:
                log.info("model.switched", model=name, kind=error.kind)
                self._answering.switch(access)
                return True
        return False

    async def _look_again(self) -> None:
        """Ask how the model is to be called: it may have been mended or disabled during a wait."""
        self._answering.refresh(await self._claim.access_now(self._answering.model.name))

    def _open_episode(self, attempt: int) -> Episode:
        return Episode(
            self._around.publisher,
            self.chat.chat_id,
            history_version=self.chat.history_version,
            attempt=attempt,
            interval_s=self._around.settings.delta_interval_s,
        )

    async def _commit_step(self, attempt: Attempt) -> None:
        await attempt.flush()
        ended = attempt.ended
        assert ended is not None  # the registry turns a stream without an end into a failure
        parts = attempt.builder.parts()
        message = self._assistant(parts, ended.stop, attempt)
        calls = local_calls(parts)
        if calls or ended.stop == "pause":
            await self._claim.commit_step((message,), begin=not calls)  # a pause: the model goes on
        elif (schema := self.chat.terms.response_schema) and ended.stop in _ANSWERED:
            await self._finish_with_answer(message, schema)
        elif self._is_full_after(ended.usage):
            await self._claim.commit_step((message,), begin=False)
        else:
            await self._finish_turn((message,), "completed")

    async def _finish_with_answer(self, message: rpc.NewMessage, schema: JsonObject) -> None:
        """The model is done: hold its answer against the schema, and ask again a few times."""
        checked = answers.check(message.parts, schema)
        message = msgspec.structs.replace(message, parts=checked.parts)
        if not checked.problems:
            await self._finish_turn((message,), "completed")
        elif max(self._repairs, answers.repairs(self._for_model())) < answers.MOST_REPAIRS:
            self._repairs += 1
            text = answers.repair(checked.problems)
            note = rpc.NewMessage(Role.USER, (TextPart(text),), Visibility.MODEL)
            log.info("answer.unfit", problems=len(checked.problems))
            await self._claim.commit_step((message, note), begin=True)
        else:
            await self._claim.finish_error(answers.UNFIT, (message,))

    def _assistant(
        self, parts: Parts, stop: StopReason, attempt: Attempt | None = None
    ) -> rpc.NewMessage:
        used = None if attempt is None or attempt.counted else attempt.usage
        return rpc.NewMessage(
            Role.ASSISTANT,
            parts,
            model=self._answering.model.name,
            usage=used,
            stop=stop,
            response_id=attempt.response_id if attempt is not None else None,
        )

    # -- summaries ------------------------------------------------------------------------------

    def _is_full_after(self, usage: Usage | None) -> bool:
        """A step that reached the threshold is committed by itself; `decide` says what follows."""
        window = self._window()
        return window is not None and window.is_full(usage)

    def _window(self) -> Window | None:
        return window_of(self._answering.model, self.chat.terms.compaction_threshold)

    async def _writer(self) -> ModelAccess:
        """The model that writes summaries: the one that answers, unless it names another."""
        own = self._answering.model
        name = own.settings.compaction_model
        return own if name is None else await self._claim.access_to(name) or own

    async def _compact(self, wanted: Compact, *, overflow: Attempt | None = None) -> None:
        """Summarise; without a summary the turn goes on, unless the provider had refused it."""
        own, writer = self._answering.model, await self._writer()

        async def request(messages: Sequence[Message]) -> StepRequest:
            asked = await self._requests.step(own, messages)
            if writer is own:
                return asked
            # Its cache knows nothing of this chat: no need for the same prefix.
            return msgspec.structs.replace(asked, model=writer, tools=())

        summariser = Summariser(
            self._claim,
            wanted,
            history=self._for_model(),
            writer=writer.name,
            request=request,
            stream=self._stream,
            window=window_of(own, self.chat.terms.compaction_threshold),
            shrink=0 if overflow is None and _fits(self._for_model(), writer) else 1,
            restate=self._restated,
        )
        done = await self._interruptible(
            summariser.write(self._around.settings.compaction_timeout_s)
        )
        await summariser.attempt.flush()
        if not done:
            if not self.steering.lost and self.steering.take_interrupt():
                await summariser.count()
                await self._claim.finish_interruption(())
            return
        if summariser.text:
            self._reentries += _has_ended(self._for_model()) and not wanted.at_rest
            await summariser.store()
        else:
            await self._without_summary(summariser.error, overflow)

    async def _restated(self) -> str:
        """What a summary is not to be trusted with."""
        found = (await restate(self._around, self.chat), plan_in(self._for_model()))
        return "\n\n".join(text for text in found if text)

    async def _without_summary(self, error: ChatError, overflow: Attempt | None) -> None:
        COMPACTIONS.labels("failed").inc()
        log.warning("compaction.failed", kind=error.kind)
        turn, history_version = self._claim.turns_ended, self.chat.history_version
        await self._claim.fail_compaction(error)
        if (turn, history_version) != (self._claim.turns_ended, self.chat.history_version):
            return  # an interrupt was faster, and what follows is another turn
        if overflow is not None and overflow.failed is not None:
            await self._finish_error(overflow.failed.error, overflow)
        else:
            self._no_summary_before = self.chat.steps + _PAUSE_STEPS

    # -- tools -----------------------------------------------------------------------------------

    async def _run_tools(self, calls: Sequence[ToolCallPart]) -> None:
        message_id = self._calls_message()
        running = StepCalls(
            self._around,
            self.chat,
            calls,
            message_id,
            hands_on=lambda: self.steering.hands_on,
            told_at=self._claim.told_at,
            first=self._claim.takes_first(message_id),
        )
        self._running, self._runs_after = running, self.chat.history_version
        if await self._interruptible(running.run()):
            if running.waits:
                await self._claim.require_action(
                    *(calls, running.results, running.asked, running.awaits),
                    expires_s=patience_s(running, self._around.settings),
                )
                return
            results = tool_message(calls, running.results, INTERRUPTED)
            if self._may_ask_ahead(results):
                await self._step(results)
                return
            begin = not self._is_full_after(last_usage(self._for_model()))
            await self._claim.commit_step(results, begin=begin)
        elif self.steering.take_interrupt():
            results = tool_message(calls, running.results, INTERRUPTED)
            await self._claim.finish_interruption(results)

    def _may_ask_ahead(self, results: NewMessages) -> bool:
        """Whether it is clear that the model is called next, and with what."""
        steering = self.steering
        if steering.draining or steering.interrupted or not may_go_ahead(self.chat, results):
            return False
        return isinstance(self._decide(foreseen(self._for_model(), results)), CallModel)

    def _calls_message(self) -> int:
        """The message whose calls are open: the same for every worker that runs them."""
        messages = reversed(self._for_model())
        return next((m.id for m in messages if m.role is Role.ASSISTANT and is_for_model(m)), 0)

    # -- ends ------------------------------------------------------------------------------------

    async def _save_partial(self, attempt: Attempt) -> None:
        """The step was ended from outside: keep what arrived, if it is still ours to keep."""
        await attempt.flush()
        if self.steering.lost:
            return
        if self.steering.take_interrupt():
            await self._claim.finish_interruption(self._partial(attempt, "interrupted"))
        elif self.steering.hurried:  # another worker makes the step again
            await self._count(attempt, self._answering.model.name)

    async def _left_behind(self) -> NewMessages:
        """What a turn that is to be interrupted has left: by us, or by a worker that died."""
        preview = await left_behind(self._around, self.chat, hurried=lambda: self.steering.hurried)
        if preview is None:
            self._stop_calls()
            return open_calls(self._for_model())
        message = self._assistant(preview.parts, "interrupted")
        message = msgspec.structs.replace(message, response_id=preview.response_id)
        return with_closed_calls(message)

    def _stop_calls(self) -> None:
        """What a worker that is gone had begun may still run: only it would have ended that."""
        chat = self.chat
        names = {tool.name for tool in chat.client_tools}
        names |= {tool.spec.name for tool in chat_tools_of(chat)}
        for call in unanswered_calls(self._for_model()):
            if call.tool not in names:
                self._around.toolbox.stop(chat.chat_id, call, self._calls_message())

    def _partial(self, attempt: Attempt, stop: StopReason) -> NewMessages:
        """What arrived of a step; its tokens count where the provider has said how many."""
        parts = attempt.builder.parts()
        return with_closed_calls(self._assistant(parts, stop, attempt))

    async def _unsaved(self) -> NewMessages:
        """What the running step has produced so far, closed."""
        running = self._running
        if self._runs_after != self.chat.history_version:
            running = None
        match running:
            case Attempt():
                await running.flush()
                return self._partial(running, "unknown")
            case StepCalls():
                return tool_message(running.calls, running.results, INTERRUPTED)
            case None:
                return await self._open_calls()

    async def _open_calls(self) -> NewMessages:
        return open_calls(self._for_model())

    async def _finish_error(self, error: ChatError, attempt: Attempt | None = None) -> None:
        messages = open_calls(self._for_model())
        if attempt is not None:
            await attempt.flush()
            messages = self._partial(attempt, "unknown")
            if not messages:
                await self._count(attempt, self._answering.model.name)
        await self._claim.finish_error(error, messages)

    async def _interruptible(self, work: Coroutine[Any, Any, object]) -> bool:
        """Run work that a person, another owner or the end of the process can end.

        Returns:
            Whether it ran to its end.
        """
        try:
            return await self.steering.run(work)
        except StaleFence as stale:
            await self._claim.settle(stale, ())
            return False


async def _nothing() -> NewMessages:
    return ()


def _has_ended(messages: Sequence[Message]) -> bool:
    """Whether the model had nothing more to do."""
    return isinstance(decide(messages, steps=1, max_steps=2), FinishTurn)


def _fits(messages: Sequence[Message], model: ModelAccess) -> bool:
    """Whether the newest step's context fits another model; unknown limits count as large."""
    usage = last_usage(messages)
    return (
        usage is None
        or model.context_limit is None
        or (context_tokens(usage) < model.context_limit)
    )
