"""Settings of the chatloop."""

from __future__ import annotations

from typing import Annotated

import msgspec

from steersman_runtime.settings import ServiceSettings


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """Read from `STEERSMAN_CHATLOOP_…`, `STEERSMAN_…` or the table `chatloop` of the TOML file."""

    max_concurrent_turns: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 256
    """Chats that this process works on at the same time."""
    lease_s: Annotated[float, msgspec.Meta(ge=1, le=300)] = 15.0
    """How long a chat stays this process's without a renewal; renewed every third of it."""
    store_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 300.0
    """Seconds that a turn waits for a store that does not answer, with what it has to save. After
    that the chat is left to whoever takes it when the store is back."""
    delta_interval_s: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.025
    """What a model streams within this time is joined into one event; the first goes at once."""
    max_steps: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1200
    """Model calls in one turn."""
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 25
    """Attempts at one model call."""
    first_event_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    idle_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    """Seconds without anything from a provider that has begun to answer."""
    action_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 300.0
    """Seconds that a client has to answer calls of its own tools."""
    approval_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)] = 86_400.0
    """Seconds that a person has to allow a call; then it is refused, and the turn ends."""
    question_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)] = 7 * 86_400.0
    """Seconds that a person has to answer a question of a model, or to raise a limit."""
    loop_notice_after: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 3
    """Repetitions of steps that fail alike, after which the model is told of it; of steps that
    succeed alike it takes four times as many."""
    loop_end_after: Annotated[int, msgspec.Meta(ge=3, le=1000)] = 6
    """Such repetitions after which the turn ends."""
    compaction_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 300.0
    """Seconds that the model has to write a summary, all attempts together."""
    cached_histories: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 256
    """Chats whose messages are kept in memory between turns."""
    cached_file_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * 2**20
    """Bytes of files that are kept in memory between requests."""
    generate_titles: bool = True
    """Have a model name new chats, from their first message alone."""
