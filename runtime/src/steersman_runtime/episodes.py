"""What a model has streamed so far, read back from the event log.

A viewer that attaches in the middle needs it, and so does the worker that takes over from a dead
one and must keep what people have already seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from steersman_contracts import subjects
from steersman_contracts.chats import Preview
from steersman_contracts.deltas import PartsBuilder
from steersman_contracts.events import EVENT_HEADER, PartDelta
from steersman_contracts.ids import ChatId
from steersman_runtime.jetstream import StoredMessage, read_subject
from steersman_runtime.nats_client import NatsClient, header

CLOCK_SKEW: Final = timedelta(seconds=60)
"""The store's clock says when an episode began, the NATS server's when its deltas were stored."""

_EVENT_NAME: Final = EVENT_HEADER.encode()
_DELTA: Final = PartDelta.name.encode()
_decode = msgspec.json.Decoder(PartDelta).decode


def fold_episode(
    deltas: Iterable[PartDelta], *, history_version: int, attempt: int, whole: bool = True
) -> Preview | None:
    """Fold the deltas of one episode; those of others are ignored, and so are repeats.

    Args:
        deltas: In the order of the log.
        history_version: Names the episode, with `attempt`.
        attempt: Names the episode, with `history_version`.
        whole: Whether what comes before a missing one is of no use.

    Returns:
        The preview; None when the episode has none, or when they are not all there from the first.
    """
    builder = PartsBuilder()
    seq = 0
    response_id: str | None = None
    for event in deltas:
        if (event.history_version, event.attempt) != (history_version, attempt):
            continue
        if event.seq <= seq:
            continue
        if event.seq != seq + 1:
            if whole:
                return None
            break
        seq = event.seq
        response_id = event.response_id or response_id
        for delta in event.deltas:
            builder.apply(delta)
    if seq == 0:
        return None
    return builder.preview(
        history_version=history_version, attempt=attempt, seq=seq, response_id=response_id
    )


async def read_episode(
    client: NatsClient,
    chat_id: ChatId,
    *,
    history_version: int,
    attempt: int,
    began_at: datetime,
    until: int | None = None,
) -> Preview | None:
    """Read what an episode has streamed, up to what the log has lost of it, if it has.

    Args:
        client: May read the event log directly.
        chat_id: The chat.
        history_version: Names the episode, with `attempt`.
        attempt: Names the episode, with `history_version`.
        began_at: When it began, by the store's clock.
        until: The last sequence of the log to look at; None for all.

    Raises:
        Unavailable: The log cannot be read at the moment.
        DeadlineExceeded: The log did not answer in time.
    """
    found: list[PartDelta] = []

    def on_message(message: StoredMessage) -> None:
        if until is not None and message.seq > until:
            return
        if header(message.headers, _EVENT_NAME) == _DELTA:
            found.append(_decode(message.payload))

    await read_subject(
        client,
        subjects.EVENT_STREAM,
        subjects.chat_events(chat_id),
        since=(began_at - CLOCK_SKEW).isoformat(),
        on_message=on_message,
    )
    return fold_episode(found, history_version=history_version, attempt=attempt, whole=False)
