"""The JetStream streams: the event log and the work hints."""

from __future__ import annotations

from typing import Any

import structlog

from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_runtime.jetstream import ensure_consumer, ensure_stream
from steersman_runtime.nats_client import NatsClient
from steersman_store.settings import Settings

log = structlog.stdlib.get_logger()

_SECOND = 1_000_000_000


def event_stream(settings: Settings) -> dict[str, Any]:
    """The event log. Its republished copies are what viewers see live."""
    return {
        "name": subjects.EVENT_STREAM,
        "subjects": [subjects.EVENT_SUBJECTS],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": int(settings.event_max_age_s * _SECOND),
        "max_bytes": settings.event_max_bytes,
        # Long enough to cover a change of the relay's leader.
        "duplicate_window": 60 * _SECOND,
        "allow_direct": True,
        "num_replicas": settings.replicas,
        "republish": {
            "src": subjects.EVENT_REPUBLISH_SOURCE,
            "dest": subjects.EVENT_REPUBLISH_TARGET,
        },
    }


def work_stream(settings: Settings) -> dict[str, Any]:
    """Work hints: a second one for the same chat is refused while the first one waits."""
    return {
        "name": subjects.WORK_STREAM,
        "subjects": [subjects.WORK_SUBJECTS],
        "retention": "workqueue",
        "storage": "file",
        "max_msgs_per_subject": 1,
        "discard": "new",
        "discard_new_per_subject": True,
        "num_replicas": settings.replicas,
    }


WORK_CONSUMER: dict[str, Any] = {
    "durable_name": subjects.WORK_CONSUMER,
    "ack_policy": "explicit",
    # A hint is acknowledged as it arrives; one that was not, died with its worker.
    "ack_wait": 2 * _SECOND,
    # Giving up would leave the hint in the stream, and block the chat for good.
    "max_deliver": -1,
    "max_ack_pending": 10_000,
    "max_waiting": 512,
}


async def ensure_streams(client: NatsClient, settings: Settings) -> None:
    """Create what is missing."""
    await ensure_stream(client, event_stream(settings))
    await ensure_stream(client, work_stream(settings))
    await ensure_consumer(client, subjects.WORK_STREAM, WORK_CONSUMER)


async def try_to_ensure_streams(client: NatsClient, settings: Settings) -> bool:
    """The same where NATS may be away: whoever asks tries again later.

    Returns:
        Whether they are there.
    """
    try:
        await ensure_streams(client, settings)
    except SteersmanError as error:
        log.warning("streams.not_ensured", error_code=error.code, error=str(error))
        return False
    return True
