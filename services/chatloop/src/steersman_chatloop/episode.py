"""Publishes what a model streams: the first delta at once, then joined at a steady pace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.deltas import (
    Delta,
    PartAdded,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    join_deltas,
)
from steersman_contracts.errors import SteersmanError
from steersman_contracts.events import EVENT_HEADER, PartDelta
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import strip_internal
from steersman_runtime.jetstream import Publisher

log = structlog.stdlib.get_logger()

_MAX_TEXT: Final = 100_000
"""Characters in one event. JSON may need six bytes for one, and an event must fit into 1 MB."""

_encode = msgspec.json.Encoder().encode


class Episode:
    """The deltas of one model attempt, on their way to the event log."""

    def __init__(
        self,
        publisher: Publisher,
        chat_id: ChatId,
        *,
        history_version: int,
        attempt: int,
        interval_s: float,
    ) -> None:
        self._publisher = publisher
        self._chat_id = chat_id
        self._history_version = history_version
        self._attempt = attempt
        self._interval_s = interval_s
        self._subject = subjects.chat_events(chat_id)
        self._headers = (
            f"NATS/1.0\r\nce-specversion: 1.0\r\n{EVENT_HEADER}: part.delta\r\n"
            f"ce-source: /chats/{chat_id}\r\nce-id: {history_version}.{attempt}."
        ).encode()
        self._seq = 0
        self._response_id: str | None = None
        self._pending: list[Delta] = []
        self._pending_text = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._unconfirmed: set[asyncio.Future[int]] = set()
        self._lost = 0

    def name(self, response_id: str | None) -> None:
        """Say what the provider calls the answer, with the next deltas."""
        self._response_id = response_id

    def add(self, delta: Delta) -> None:
        """Publish a delta, now or with those that follow within the interval."""
        if isinstance(delta, PartAdded):
            delta = _public(delta)
        for piece in _split(delta):
            join_deltas(self._pending, piece)
            self._pending_text += _length(piece)
            if self._pending_text >= _MAX_TEXT:
                self._publish()
        if self._pending and self._timer is None:
            loop = asyncio.get_running_loop()
            wait = self._next_at - loop.time()
            if wait <= 0:
                self._publish()
            else:
                self._timer = loop.call_later(wait, self._publish)

    def _publish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            return
        self._next_at = asyncio.get_running_loop().time() + self._interval_s
        self._seq += 1
        event = PartDelta(
            chat_id=self._chat_id,
            history_version=self._history_version,
            attempt=self._attempt,
            seq=self._seq,
            deltas=tuple(self._pending),
            response_id=self._response_id,
        )
        self._response_id = None
        self._pending = []
        self._pending_text = 0
        headers = b"%b%d\r\n\r\n" % (self._headers, self._seq)
        try:
            future = self._publisher.publish(self._subject, _encode(event), headers=headers)
        except SteersmanError:
            self._lost += 1  # the committed message will say it all
            return
        if self._seq == 1:
            # A provider's burst is read without giving way; the first word is not to wait for it.
            self._publisher.write_now()
        self._unconfirmed.add(future)
        future.add_done_callback(self._confirmed)

    def _confirmed(self, future: asyncio.Future[int]) -> None:
        self._unconfirmed.discard(future)
        if not future.cancelled() and future.exception() is not None:
            self._lost += 1

    async def flush(self) -> None:
        """Publish what is left and wait until the log has everything, or says that it has not.

        Called before the step is committed, so that the log shows the deltas before the message
        that they add up to. Each publish has its own deadline, so this ends soon.
        """
        self._publish()
        if self._unconfirmed:
            await asyncio.wait(set(self._unconfirmed))
        if self._lost:
            log.warning("deltas.lost", chat_id=self._chat_id, events=self._lost)


def _length(delta: Delta) -> int:
    match delta:
        case TextDelta() | ReasoningDelta() | ToolArgumentsDelta():
            return len(delta.text)
        case _:
            return 0


def _split(delta: Delta) -> Iterator[Delta]:
    match delta:
        case TextDelta() | ReasoningDelta() | ToolArgumentsDelta() if len(delta.text) > _MAX_TEXT:
            for start in range(0, len(delta.text), _MAX_TEXT):
                yield type(delta)(delta.index, delta.text[start : start + _MAX_TEXT])
        case _:
            yield delta


def _public(delta: PartAdded) -> PartAdded:
    """A whole part without what only its provider may see again."""
    (part,) = strip_internal((delta.part,))
    return PartAdded(delta.index, part)  # pyright: ignore[reportArgumentType]  # the kind it was
