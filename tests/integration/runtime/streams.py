"""Streams of a test's own."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from steersman_runtime.jetstream import ensure_consumer, ensure_stream
from steersman_runtime.nats_client import NatsClient


class Stream(NamedTuple):
    name: str

    def subject(self, last: object) -> str:
        return f"{self.name}.{last}"


async def new_stream(client: NatsClient, **config: Any) -> Stream:
    name = f"T{uuid.uuid4().hex}"
    await ensure_stream(
        client, {"name": name, "subjects": [f"{name}.*"], "allow_direct": True, **config}
    )
    return Stream(name)


async def new_work_queue(client: NatsClient, *, ack_wait_s: float = 30.0) -> Stream:
    """As the stream of work hints: one message per subject, and each is taken once.

    What was delivered and not acknowledged in time comes again; on a busy machine, that may be
    something whose acknowledgement is under way.
    """
    stream = await new_stream(
        client,
        retention="workqueue",
        discard="new",
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
    )
    await ensure_consumer(
        client,
        stream.name,
        {
            "durable_name": "turns",
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait_s * 1e9),
            "max_deliver": -1,
        },
    )
    return stream
