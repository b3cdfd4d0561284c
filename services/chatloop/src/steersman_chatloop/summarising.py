"""Writes a summary of a chat, through the same model and the same path as any step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import structlog
from prometheus_client import Counter

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
from steersman_chatloop.providers.base import ProviderFailed, StepRequest
from steersman_chatloop.retries import delay_s
from steersman_contracts.chats import ChatError, Message
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import TextPart

log = structlog.stdlib.get_logger()

_MOST_ATTEMPTS: Final = 5
_SLOW: Final = ChatError("timeout", "The summary was not written in time.", retryable=True)

COMPACTIONS = Counter("steersman_compactions", "Summaries written or given up", ["result"])


Begin: TypeAlias = Callable[[], Coroutine[Any, Any, int]]
"""Opens an episode and returns its number."""

Requested: TypeAlias = Callable[[Sequence[Message]], Awaitable[StepRequest]]
"""Makes the request that sends these messages, with all that a step sends beside them."""


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
        writer: ModelName,
        request: Requested,
        stream: Streams,
        window: Window | None,
        shrink: int,
        restate: Callable[[], Awaitable[str]],
    ) -> None:
        self._claim = claim
        self._chat = claim.chat
        self._wanted = wanted
        self._history = history
        self._writer = writer
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
            await self._ask()
            failed = self.attempt.failed
            if failed is None:
                parts = self.attempt.builder.parts()
                self.text = "".join(p.text for p in parts if isinstance(p, TextPart)).strip()
                self.error = EMPTY
                self._state = await self._restate() if self.text else ""
                if not self.text:
                    await self.count()
                return
            await self.count()
            self.error = failed.error
            log.info("compaction.attempt_failed", kind=failed.error.kind)
            if failed.error.kind == "context_overflow":
                self._shrink += 1
            elif failed.error.retryable or (failed.once and failures == 1):
                await asyncio.sleep(delay_s(failures, failed.retry_after_s))
            else:
                return

    async def count(self) -> None:
        """Book what the newest attempt has used: no summary that is stored says so."""
        if (used := self.attempt.to_count(self._chat, "summary", self._writer)) is not None:
            await self._claim.count(used)

    async def _begin(self) -> int:
        return await self._claim.begin_compaction(self._wanted.source)

    async def _ask(self) -> None:
        try:
            messages = asked(self._history, shrink=self._shrink)
            request = await self._request(messages)
        except ProviderFailed as error:  # a file cannot be read now
            self.attempt.failed = error
            return
        request = msgspec.structs.replace(request, tool_choice="none", response_schema=None)
        await self._stream(self.attempt, request, self._begin)

    async def store(self) -> None:
        """Store the summary that was written."""
        chat = self._claim.chat
        ended = self.attempt.ended
        carried = unanswered(self._history)
        messages = replacement(
            Summary(
                self.text,
                ended.usage if ended else None,
                self._writer,
                self.attempt.response_id,
            ),
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
        if not await self._claim.commit_compaction(messages, at_rest=self._wanted.at_rest):
            await self.count()
