"""What a dead worker had streamed of a turn: people have seen it, so it is kept.

What its provider wants back of it died with the worker, and is never sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from steersman_chatloop.steering import LostError
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.chats import Preview
from steersman_contracts.errors import DeadlineExceeded, Unavailable
from steersman_contracts.rpc.worker import OwnedChat
from steersman_runtime.episodes import read_episode

log = structlog.stdlib.get_logger()

_PATIENCE_S: Final = 30.0
"""How long the event log may be away: a NATS that starts again, or elects, is back by then."""
_PAUSE_S: Final = 0.5


async def left_behind(
    around: Surroundings, chat: OwnedChat, *, hurried: Callable[[], bool]
) -> Preview | None:
    """Read the running episode of a chat back from the event log.

    Args:
        around: What every turn needs.
        chat: As its new owner got it.
        hurried: Whether this process ends.

    Returns:
        What it has streamed; None when there is no episode or nothing of it, and also when the
        log did not answer for long: a turn that a person wants to end does end.

    Raises:
        LostError: The process ends before the log answers; the next worker reads it.
    """
    if chat.attempt_started_at is None or chat.generation_attempt == 0:
        return None
    end = time.monotonic() + _PATIENCE_S
    while not hurried():
        try:
            preview = await read_episode(
                around.client,
                chat.chat_id,
                history_version=chat.history_version,
                attempt=chat.generation_attempt,
                began_at=chat.attempt_started_at,
            )
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("episode.not_read", error_code=error.code)
            if time.monotonic() >= end:
                return None
            await asyncio.sleep(_PAUSE_S)
            continue
        if preview is not None:
            log.info("episode.recovered", seq=preview.seq)
        return preview
    raise LostError
