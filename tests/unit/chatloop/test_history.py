"""Cached histories follow what the store says changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from steersman_chatloop.decide import after_boundary
from steersman_chatloop.history import Histories, History
from steersman_chatloop.retries import delay_s
from steersman_contracts.chats import Boundary, Message, Role
from steersman_contracts.ids import ChatId, MessageId

NOW = datetime(2026, 1, 1, tzinfo=UTC)


BOUNDARIES: Final[tuple[Boundary | None, ...]] = (None, None, "clear", "summary")


def row(
    number: int, revision: int, *, deleted: bool = False, boundary: Boundary | None = None
) -> Message:
    return Message(
        MessageId(number), Role.USER, (), revision, NOW, deleted=deleted, boundary=boundary
    )


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


@given(st.lists(st.tuples(st.sampled_from(BOUNDARIES), st.integers(0, 12)), max_size=14), st.data())
def test_what_is_before_the_newest_boundary_is_not_kept_unless_it_is_taken_back(
    changes: list[tuple[Boundary | None, int]], data: st.DataObject
) -> None:
    stored: dict[int, Message] = {}
    history = History()
    for revision, (boundary, kept) in enumerate(changes, start=1):
        # A person edits or takes something back: whatever follows is gone. Then a message comes.
        gone = [row(i, revision, deleted=True) for i in stored if i > kept and kept % 3 == 0]
        for tombstone in gone:
            del stored[tombstone.id]
        stored[revision] = row(revision, revision, boundary=boundary)
        known = [*gone, stored[revision]]
        at = data.draw(st.integers(0, len(known)))
        history.apply(known[:at])
        history.apply(known[at:])
        if history.torn:
            history.forget()
            assert (history.messages, history.revision) == ([], 0)
            history.apply(list(stored.values()))

        whole = list(stored.values())
        assert not history.torn
        assert after_boundary(history.messages) == after_boundary(whole)
        assert len(history.messages) <= len(after_boundary(whole)) + 1
        assert history.revision == revision


def test_a_boundary_that_is_gone_is_not_missed_when_a_newer_one_has_come() -> None:
    history = History()
    history.apply([row(1, 1), row(2, 2, boundary="summary")])
    history.apply([row(2, 3, deleted=True), row(5, 5, boundary="clear"), row(6, 6)])

    assert not history.torn
    assert [message.id for message in history.messages] == [5, 6]
    history.apply([row(1, 7)])
    assert [message.id for message in history.messages] == [5, 6]


def test_what_was_prepared_is_not_held_on_to_behind_a_boundary() -> None:
    history = History()
    history.apply([row(1, 1), row(2, 2)])
    before = history.preparation
    history.apply([row(3, 3)])
    assert history.preparation is before
    history.apply([row(4, 4, boundary="summary")])
    assert history.preparation is not before


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
