"""Writes a summary of a chat, through the same model and the same path as any step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import structlog
from prometheus_client import Counter

from steersman_chatloop import prompt
from steersman_chatloop.attempt import Attempt
from steersman_chatloop.claim import Claim
from steersman_chatloop.compaction import (
    EMPTY,
    Summary,
    Window,
    asked,
    last_usage,
    replacement,
    unanswered,
)
from steersman_chatloop.decide import Compact
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.retries import delay_s
from steersman_contracts.chats import ChatError, Message
from steersman_contracts.parts import TextPart

log = structlog.stdlib.get_logger()

_MOST_ATTEMPTS: Final = 5
_SLOW: Final = ChatError("timeout", "The summary was not written in time.", retryable=True)

COMPACTIONS = Counter("steersman_compactions", "Summaries written or given up", ["result"])


Begin: TypeAlias = Callable[[], Coroutine[Any, Any, int]]
"""Opens an episode and returns its number."""


class Streams(Protocol):
    """Streams one model call into an attempt; its episode is what `begin` opens."""

    def __call__(
        self, attempt: Attempt, request: StepRequest, begin: Begin
    ) -> Coroutine[Any, Any, None]:
        """Run to the end of the stream; a failure is noted in the attempt."""
        ...


class Summariser:
    """One summary. `text` or `error` is set once `write` has run to its end."""

    def __init__(
        self,
        claim: Claim,
        wanted: Compact,
        *,
        history: Sequence[Message],
        request: StepRequest,
        stream: Streams,
        window: Window | None,
        shrink: int,
        restate: Callable[[], Awaitable[str]],
    ) -> None:
        self._claim = claim
        self._wanted = wanted
        self._history = history
        self._request = request
        self._stream = stream
        self._window = window
        self._shrink = shrink
        self._restate = restate
        self._state = ""
        self.attempt = Attempt()
        self.text = ""
        self.error: ChatError = EMPTY

    async def write(self, timeout_s: float) -> None:
        """Ask the model, again where that can help."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._write()
        except TimeoutError:
            self.error = _SLOW

    async def _write(self) -> None:
        for failures in range(1, _MOST_ATTEMPTS + 1):
            self.attempt = Attempt()
            await self._stream(self.attempt, self._asked(), self._begin)
            failed = self.attempt.failed
            if failed is None:
                parts = self.attempt.builder.parts()
                self.text = "".join(p.text for p in parts if isinstance(p, TextPart)).strip()
                self.error = EMPTY
                self._state = await self._restate() if self.text else ""
                return
            self.error = failed.error
            log.info("compaction.attempt_failed", kind=failed.error.kind)
            if failed.error.kind == "context_overflow":
                self._shrink += 1
            elif failed.error.retryable or (failed.once and failures == 1):
                await asyncio.sleep(delay_s(failures, failed.retry_after_s))
            else:
                return

    async def _begin(self) -> int:
        return await self._claim.begin_compaction(self._wanted.source)

    def _asked(self) -> StepRequest:
        messages = prompt.prepare(asked(self._history, shrink=self._shrink))
        return msgspec.structs.replace(
            self._request, messages=messages, tool_choice="none", response_schema=None
        )

    async def settle(self) -> bool:
        """Store the summary, or say that there is none.

        Returns:
            Whether there is one.
        """
        if not self.text:
            COMPACTIONS.labels("failed").inc()
            log.warning("compaction.failed", kind=self.error.kind)
            await self._claim.fail_compaction(self.error)
            return False
        chat = self._claim.chat
        ended = self.attempt.ended
        carried = unanswered(self._history)
        model = self._request.model.name
        messages = replacement(
            Summary(self.text, ended.usage if ended else None, model, self.attempt.response_id),
            source=self._wanted.source,
            window=self._window,
            before=last_usage(self._history),
            carried=carried,
            at_rest=self._wanted.at_rest,
            call_id=f"summary-{chat.history_version}",
            state=self._state,
        )
        COMPACTIONS.labels("written").inc()
        log.info("compaction.written", source=self._wanted.source, carried=len(carried))
        await self._claim.commit_compaction(messages, at_rest=self._wanted.at_rest)
        return True
