"""Cached histories follow what the store says changed."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from steersman_chatloop.history import Histories, History
from steersman_chatloop.retries import delay_s
from steersman_contracts.chats import Message, Role
from steersman_contracts.ids import ChatId, MessageId

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int, revision: int, *, deleted: bool = False) -> Message:
    return Message(MessageId(number), Role.USER, (), revision, NOW, deleted=deleted)


@given(
    st.lists(
        st.builds(row, st.integers(1, 20), st.integers(1, 50), deleted=st.booleans()), max_size=40
    ),
    st.integers(0, 40),
)
def test_a_history_is_the_last_state_of_each_message_in_order_of_id(
    changes: list[Message], cut: int
) -> None:
    changes.sort(key=lambda message: message.revision)
    history = History()
    history.apply(changes[:cut])
    history.apply(changes[cut:])

    last = {message.id: message for message in changes}
    expected = [last[i] for i in sorted(last) if not last[i].deleted]
    assert history.messages == expected
    assert history.revision == max((m.revision for m in changes), default=0)


def test_only_the_histories_used_last_are_kept() -> None:
    histories = Histories(keep=2)
    for name in ("a", "b", "c"):
        history = History()
        history.apply([row(1, 7)])
        histories.give_back(ChatId(name), history)

    assert histories.take(ChatId("a")).revision == 0
    assert histories.take(ChatId("b")).revision == 7
    assert histories.take(ChatId("b")).revision == 0, "a history has one owner at a time"


def test_waits_double_to_a_minute_and_respect_what_the_provider_asks() -> None:
    assert [delay_s(n, None) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert delay_s(1, 30.5) == 30.5
    assert delay_s(7, 3) == 60
    assert delay_s(1000, None) == 60
