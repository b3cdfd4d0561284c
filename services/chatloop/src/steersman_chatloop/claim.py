"""One runner's claim on one chat: what it believes of the chat, and every write under it.

Each write names what it believes (the fence) and is refused when that is no longer so. A reply is
the chat as it is after the write, and is what is believed from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
import structlog
from prometheus_client import Counter

from steersman_chatloop.asking import ask
from steersman_chatloop.history import History
from steersman_chatloop.oversize import fit
from steersman_chatloop.partial import INTERRUPTED, NewMessages, answered, tool_message
from steersman_chatloop.steering import LostError, Steering
from steersman_chatloop.surroundings import Surroundings, load
from steersman_contracts.chats import ChatError, CompactionSource, Outcome, Status
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
from steersman_contracts.ids import MessageId, ModelName
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.policies import PendingApproval
from steersman_contracts.rpc import Method
from steersman_contracts.rpc import worker as rpc
from steersman_contracts.rpc.attempts import COUNT_ATTEMPT, CountAttempt
from steersman_contracts.rpc.steering import PAUSE_TURN, PauseTurn
from steersman_contracts.rpc.worker import ModelAccess
from steersman_contracts.terms import LimitReached

log = structlog.stdlib.get_logger()

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

_ENVELOPE: Final = 64 * 1024
"""Bytes of a write beside its messages."""

TURNS = Counter("steersman_turns", "Turns that ended", ["outcome"])

Request = Callable[[rpc.Fence, NewMessages], msgspec.Struct]


class Claim:
    """A chat that this runner owns, as long as the store agrees."""

    def __init__(
        self,
        around: Surroundings,
        chat: rpc.OwnedChat,
        history: History,
        steering: Steering,
    ) -> None:
        self._around = around
        self._steering = steering
        self.chat = chat
        self.history = history
        self.released = False
        """The chat rests, or was given back: nothing is left to do."""
        self.whole = True
        """False: reading the history has failed half-way, and it must not be taken for one."""
        self.turns_ended = 0
        self.told_at = float("-inf")
        """When a commit has told what the chat is like, on the clock of this process."""
        self._stored: MessageId | None = None
        """The message that the last commit has stored, if it said so and nothing was made of it."""

    def takes_first(self, message_id: int) -> bool:
        """Whether a message is of us and its calls were never asked for; true once at most.

        A commit whose reply was lost says nothing: others may have had the chat meanwhile.
        """
        stored, self._stored = self._stored, None
        return stored == message_id

    # -- the model's turn ------------------------------------------------------------------------

    async def begin_attempt(self) -> int:
        """Open an episode, unless the transition that brought us here has done so."""
        if self.chat.begun:
            attempt = self.chat.generation_attempt
        else:
            reply = await self._ask(rpc.BEGIN_ATTEMPT, rpc.BeginAttempt(self._fence()))
            attempt = reply.attempt
        # What a dead worker had streamed is superseded by this attempt.
        self.chat = msgspec.structs.replace(self.chat, attempt_started_at=None, begun=False)
        return attempt

    async def record_retry(self, attempt: int, error: ChatError, wait_s: float) -> None:
        """Tell people that the attempt failed, and when the next one starts."""
        delay_ms = round(wait_s * 1000)
        with suppress(StaleFence):  # it only informs: the next write will say that it is stale
            await self._ask(
                rpc.RECORD_RETRY, rpc.RecordRetry(self._fence(), attempt, delay_ms, error)
            )

    async def count(self, attempt: CountAttempt) -> None:
        """Book what an attempt has used of which nothing is stored."""
        await self._ask(COUNT_ATTEMPT, attempt)

    async def commit_step(self, messages: NewMessages, *, begin: bool) -> None:
        """Append what a step produced; with `begin`, the model's next episode is open after it."""
        await self._commit(rpc.COMMIT_STEP, messages, lambda f, m: rpc.CommitStep(f, m, begin))

    async def begin_compaction(self, source: CompactionSource) -> int:
        """Tell people that a summary is being written; its deltas are the episode returned."""
        reply = await self._ask(rpc.BEGIN_COMPACTION, rpc.BeginCompaction(self._fence(), source))
        self.chat = msgspec.structs.replace(self.chat, attempt_started_at=None, begun=False)
        return reply.attempt

    async def commit_compaction(self, messages: NewMessages, *, at_rest: bool) -> bool:
        """Put a summary in place of what was before it; the model goes on unless `at_rest`.

        Returns:
            Whether it is stored: an interrupt may have been faster.
        """
        boundary = "summary-at-rest" if at_rest else "summary"
        return await self._commit(
            rpc.COMMIT_COMPACTION,
            messages,
            lambda f, m: rpc.CommitCompaction(f, boundary, m, begin=not at_rest),
            keeps=False,
        )

    async def fail_compaction(self, error: ChatError) -> None:
        """Tell people that there is no summary."""
        await self._commit(
            rpc.FAIL_COMPACTION, (), lambda f, _: rpc.FailCompaction(f, error), keeps=False
        )

    # -- ends ------------------------------------------------------------------------------------

    async def finish_turn(
        self, messages: NewMessages, outcome: Outcome, *, begin: bool = True
    ) -> None:
        """End the turn; a queued message starts the next one in the same transaction.

        With `begin`, the episode that answers it is open after it.
        """
        await self._commit(
            rpc.FINISH_TURN,
            messages,
            lambda f, m: rpc.FinishTurn(f, m, outcome, begin=begin),
            ends=outcome,
        )

    async def finish_interruption(self, messages: NewMessages) -> None:
        """End the turn that a person interrupted, keeping what it produced."""
        if self.chat.status is not Status.INTERRUPTING:
            # The control message was faster than any reply of the store.
            self.chat = msgspec.structs.replace(self.chat, status=Status.INTERRUPTING)
        await self._commit(
            rpc.FINISH_INTERRUPTION,
            messages,
            lambda f, m: rpc.FinishInterruption(f, m),
            ends="interrupted",
        )

    async def finish_error(self, error: ChatError, messages: NewMessages) -> None:
        """End the turn with an error; nothing queued is promoted."""
        log.info("turn.errored", kind=error.kind, provider=error.provider)
        await self._commit(
            rpc.FINISH_ERROR, messages, lambda f, m: rpc.FinishError(f, error, m), ends="error"
        )

    async def end_broken(self, error: ChatError, messages: NewMessages) -> None:
        """End the turn because something of ours broke, whichever end it still has."""
        if self.chat.status is Status.INTERRUPTING or self._steering.take_interrupt():
            await self.finish_interruption(messages)
        else:
            await self.finish_error(error, messages)

    async def require_action(
        self,
        calls: Sequence[ToolCallPart],
        results: dict[str, ToolResultPart],
        approvals: tuple[PendingApproval, ...] = (),
        waits: tuple[rpc.AgentWait, ...] = (),
        *,
        expires_s: float,
    ) -> None:
        """Pause the chat until client, person or agents have answered; nobody owns it meanwhile."""
        done = tuple(results.values())
        await self._commit(
            rpc.ENTER_REQUIRES_ACTION,
            tool_message(calls, results, INTERRUPTED),  # stored only if an interrupt came first
            lambda f, _: rpc.EnterRequiresAction(
                f, tuple(calls), done, approvals, expires_s, waits
            ),
        )

    async def pause(self, reached: LimitReached) -> None:
        """Pause the chat until a person has raised the limit, or ended the turn."""
        expires_s = self._around.settings.question_timeout_s
        log.info("turn.paused", limit=reached.kind)
        await self._commit(PAUSE_TURN, (), lambda f, _: PauseTurn(f, reached, expires_s))

    async def access_to(self, model: ModelName) -> ModelAccess | None:
        """How to reach another model than the chat's own; None when it cannot be used."""
        access = await self.access_now(model)
        return access if access.disabled is None else None

    async def access_now(self, model: ModelName) -> ModelAccess:
        """How to reach a model at this moment, or why it cannot be called."""
        request = rpc.GetModelAccess(self.chat.chat_id, self._around.runner_id, model)
        try:
            return (await self._ask(rpc.MODEL_ACCESS, request)).model
        except StaleFence as stale:
            raise LostError from stale

    async def hand_over(self) -> None:
        """Give the chat back unfinished."""
        with suppress(SteersmanError):  # the lease ends by itself
            await self._around.rpc.call(
                rpc.ABANDON, rpc.Abandon(self.chat.chat_id, self._around.runner_id), deadline_s=2
            )
        log.info("turn.handed_over")
        self.released = True

    # -- talking to the store --------------------------------------------------------------------

    def _fence(self) -> rpc.Fence:
        chat = self.chat
        return rpc.Fence(chat.chat_id, self._around.runner_id, chat.history_version, chat.status)

    async def _ask(self, method: Method[Q, R], request: Q) -> R:
        """Ask the store until it answers, or the time is up.

        Then nobody has this chat: the lease ends by itself, and whoever takes the chat next
        goes on from what is stored and from the event log (decision 30).

        Raises:
            LostError: It did not answer, or the chat is not ours any more.
        """
        steering = self._steering
        if steering.lost:
            raise LostError
        try:
            return await ask(
                self._around.rpc,
                method,
                request,
                within_s=self._around.settings.store_timeout_s,
                gives_up=lambda: steering.lost or steering.hurried,
            )
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("store.given_up", method=method.name, error_code=error.code)
            raise LostError from error
        except NotFound as error:  # deleted meanwhile
            raise LostError from error

    async def _commit(
        self,
        method: Method[Any, rpc.Committed],
        messages: NewMessages,
        request: Request,
        *,
        ends: Outcome | None = None,
        keeps: bool = True,
    ) -> bool:
        """Write what was produced; the reply is the chat as it is now.

        With `keeps`, an interrupt that came first ends the turn with the same messages.

        Returns:
            Whether it was this that was written.
        """
        try:
            committed = await self._write(method, messages, request)
        except StaleFence as stale:
            await self.settle(stale, messages if keeps else ())
            return False
        self.chat, self.told_at = committed.chat, time.monotonic()
        self.history.apply(committed.messages)
        self._stored = committed.messages[-1].id if committed.messages else None
        self.released = committed.released
        if ends is not None:
            self.turns_ended += 1
            TURNS.labels(ends).inc()
            log.info("turn.finished", outcome=ends, steps=committed.chat.steps)
        return True

    async def _write(
        self, method: Method[Any, rpc.Committed], messages: NewMessages, request: Request
    ) -> rpc.Committed:
        try:
            return await self._ask(method, request(self._fence(), messages))
        except PayloadTooLarge as error:
            log.warning("step.cut", limit=error.details["limit"])
            cut = fit(messages, error.details["limit"] - _ENVELOPE)
            return await self._ask(method, request(self._fence(), cut))

    async def settle(self, stale: StaleFence, messages: NewMessages) -> None:
        """The chat is not what we believed. Keep the work if only an interrupt came between.

        Raises:
            LostError: It is no longer ours.
        """
        details = stale.details
        interrupted = (
            details.get("owned")
            and details.get("status") == Status.INTERRUPTING
            and details.get("history_version") == self.chat.history_version
            and self.chat.status is Status.RUNNING
        )
        if interrupted:
            self._steering.interrupted = False
            await self.finish_interruption(answered(messages))
            return
        if not details.get("owned"):
            raise LostError from stale
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
            self.chat, self.whole = context.chat, False
            await load(self._around, self.history, context)
            self.whole = True
        except (TransitionRefused, AlreadyOwned, NotFound, StaleFence) as error:
            raise LostError from error
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("store.given_up", method=rpc.LOAD_HISTORY.name, error_code=error.code)
            raise LostError from error
