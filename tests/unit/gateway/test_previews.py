"""A preview is the whole of what an episode has streamed, or it is not there."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from steersman_contracts.chats import Chat, Preview, Status
from steersman_contracts.deltas import Delta, TextDelta, ToolArgumentsDelta, ToolCallStarted
from steersman_contracts.events import PartDelta
from steersman_contracts.ids import ChatId, ModelName, UserId
from steersman_contracts.parts import TextPart, ToolCallPart
from steersman_gateway.snapshots import fold

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = ChatId("01970000-0000-7000-8000-000000000001")
CHAT = Chat(
    id=ID,
    owner_id=UserId("u"),
    title="",
    model=ModelName("demo/plain"),
    status=Status.RUNNING,
    created_at=NOW,
    updated_at=NOW,
    snapshot_version=9,
    history_version=7,
    generation_attempt=2,
)


def event(
    seq: int, *deltas: Delta, version: int = 7, attempt: int = 2, named: str | None = None
) -> bytes:
    body = PartDelta(
        chat_id=ID,
        history_version=version,
        attempt=attempt,
        seq=seq,
        deltas=deltas,
        response_id=named,
    )
    return msgspec.json.encode(body)


def test_deltas_of_the_present_episode_add_up() -> None:
    preview = fold(
        CHAT,
        [
            event(1, TextDelta(0, "old"), version=6),
            event(1, TextDelta(0, "failed"), attempt=1, named="msg_1"),
            event(1, TextDelta(0, "The "), TextDelta(0, "sea"), named="msg_2"),
            event(2, ToolCallStarted(1, "c1", "look"), ToolArgumentsDelta(1, '{"a":')),
            event(3, ToolArgumentsDelta(1, "1}")),
        ],
    )

    parts = (TextPart("The sea"), ToolCallPart("c1", "look", {"a": 1}))
    assert preview == Preview(7, 2, 3, parts, (0, 1), "msg_2")


def test_a_repeated_event_counts_once() -> None:
    preview = fold(CHAT, [event(1, TextDelta(0, "a")), event(1, TextDelta(0, "a"))])

    assert preview == Preview(7, 2, 1, (TextPart("a"),), (0,))


@pytest.mark.parametrize(
    "payloads",
    [
        [],
        [event(2, TextDelta(0, "b"))],
        [event(1, TextDelta(0, "a")), event(3, TextDelta(0, "c"))],
        [event(1, TextDelta(0, "a")), event(2, ToolArgumentsDelta(0, "x"))],
        [b"not json"],
        [event(1, TextDelta(0, "a"), version=6)],
    ],
    ids=["none", "no first", "a hole", "nonsense", "unreadable", "of another episode"],
)
def test_half_a_preview_is_none(payloads: list[bytes]) -> None:
    assert fold(CHAT, payloads) is None
