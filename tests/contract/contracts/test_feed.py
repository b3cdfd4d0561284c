from __future__ import annotations

import pytest

from steersman_contracts import events, subjects
from steersman_contracts.feed import FEED_EVENTS, LISTED_NAMES, FeedGap, FeedSync
from steersman_contracts.ids import ChatId, UserId

USER = UserId("0190a0a0-0000-7000-8000-00000000000a")


def test_the_feed_names_its_events_as_a_chat_does() -> None:
    assert FEED_EVENTS.keys() <= events.EVENTS.keys()
    assert {FEED_EVENTS[name] for name in LISTED_NAMES} <= set(events.CHAT_EVENTS)
    assert FEED_EVENTS.keys() - LISTED_NAMES == {"stream.sync", "stream.gap"}


def test_nothing_that_streams_is_listed() -> None:
    assert {
        "chat.created",
        "chat.updated",
        "chat.archived",
        "chat.unarchived",
        "chat.deleted",
        "chat.status",
        "chat.error",
        "action.required",
    } == LISTED_NAMES


@pytest.mark.parametrize(
    ("mine", "of_a_chat"), [(FeedSync, events.StreamSync), (FeedGap, events.StreamGap)]
)
def test_what_is_only_on_the_stream_is_alike_on_both_but_for_the_chat(
    mine: type[FeedSync | FeedGap], of_a_chat: type[events.Event]
) -> None:
    assert mine.name == of_a_chat.name
    assert set(mine.__struct_fields__) | {"chat_id"} == set(of_a_chat.__struct_fields__)


def test_a_feed_has_a_subject_in_the_same_stream() -> None:
    assert subjects.my_events(USER) == f"steersman.v1.ev.me.{USER}"
    assert subjects.live_copy(subjects.my_events(USER)) == f"steersman.v1.live.me.{USER}"


def test_a_feed_is_never_taken_for_a_chat() -> None:
    feed = subjects.my_events(USER)

    for subject in (feed, subjects.live_copy(feed)):
        with pytest.raises(ValueError, match="not about one chat"):
            subjects.chat_of(subject)
    assert not {f"{partition:02x}" for partition in range(256)} & {subjects.ME}


def test_only_what_is_stored_has_a_live_copy() -> None:
    chat = ChatId("0190a0a0-0000-7000-8000-000000000001")

    assert subjects.live_copy(subjects.chat_events(chat)) == subjects.chat_live(chat)
    with pytest.raises(ValueError, match="not a subject of the event log"):
        subjects.live_copy(subjects.chat_work(chat))
