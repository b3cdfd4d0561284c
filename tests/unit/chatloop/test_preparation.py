"""A history that grows is prepared piece by piece, and the result is that of the whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from steersman_chatloop.prompt import Preparation, prepare
from steersman_contracts.chats import Message, Role, StopReason, Visibility
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import FilePart, Part, TextPart, ToolCallPart, ToolResultPart

NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
PICTURE: Final = FilePart("image/png", file_id="f1")
IDS: Final = ("c1", "c2")


def _message(role: Role, *parts: Part, **fields: object) -> Message:
    return msgspec.structs.replace(Message(MessageId(1), role, parts, 1, NOW), **fields)


PARTS: Final[tuple[Part, ...]] = (
    TextPart("so"),
    TextPart(" "),
    PICTURE,
    *(
        ToolCallPart(call_id, "add", {}, provider_executed=by_provider)
        for call_id in IDS
        for by_provider in (False, True)
    ),
    *(
        ToolResultPart(call_id, "add", (content,), provider_executed=by_provider)
        for call_id in IDS
        for content in (TextPart("2"), PICTURE)
        for by_provider in (False, True)
    ),
)
STOPS: Final[tuple[StopReason | None, ...]] = (None, "end", "pause")
SEEN_BY: Final = (Visibility.BOTH, Visibility.BOTH, Visibility.USER)


def _any_message(
    role: Role,
    parts: list[Part],
    stop: StopReason | None,
    visibility: Visibility,
    deleted: bool,  # drawn, not called
) -> Message:
    return _message(role, *parts, stop=stop, visibility=visibility, deleted=deleted)


messages = st.builds(
    _any_message,
    st.sampled_from(Role),
    st.lists(st.sampled_from(PARTS), max_size=3),
    st.sampled_from(STOPS),
    st.sampled_from(SEEN_BY),
    st.sampled_from((False, False, False, True)),
)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(messages, max_size=4)), max_size=6))
def test_piece_by_piece_is_as_the_whole(growth: list[tuple[int, list[Message]]]) -> None:
    preparation = Preparation()
    history: list[Message] = []
    for taken_back, added in growth:
        history = [*history[: len(history) - taken_back], *added]
        prepared, plain = preparation.prepare(history)
        assert prepared == prepare(history)
        assert not any(PICTURE in _content(message) for message in prepared[:plain])


def test_messages_without_files_are_known_from_the_time_before() -> None:
    preparation = Preparation()
    history = [_message(Role.USER, TextPart("hi")), _message(Role.ASSISTANT, TextPart("ho"))] * 5
    preparation.prepare(history)

    prepared, plain = preparation.prepare([*history, _message(Role.USER, TextPart("go on"))])

    assert plain == len(history)
    assert all(a is b for a, b in zip(prepared, history, strict=False))


def _content(message: Message) -> list[object]:
    return [
        item
        for part in message.parts
        for item in (part.content if isinstance(part, ToolResultPart) else (part,))
    ]
