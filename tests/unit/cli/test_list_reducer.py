from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cli.chat_log import NOW, new_chat

from steersman.client import ChatsView
from steersman_contracts import events as e
from steersman_contracts.chats import Chat, ChatError, PendingAction, Status
from steersman_contracts.feed import ChatsSnapshot, FeedEvent, FeedGap, FeedSync
from steersman_contracts.ids import ChatId


def chat(name: str, **fields: object) -> Chat:
    return msgspec.structs.replace(new_chat(), id=ChatId(name), title=name, **fields)


def sync(*chats: Chat, has_more: bool = False) -> FeedSync:
    snapshot = ChatsSnapshot(chats, has_more, "next" if has_more else None)
    return FeedSync(epoch="e", position=1, head=1, snapshot=snapshot)


def status(name: str, version: int, to: Status = Status.RUNNING, **fields: object) -> FeedEvent:
    event = e.ChatStatusChanged(
        chat_id=ChatId(name), snapshot_version=version, status=to, history_version=version
    )
    return msgspec.structs.replace(event, **fields)


def view_of(*events: FeedEvent) -> ChatsView:
    view = ChatsView()
    for event in events:
        view.apply(event)
    return view


def titles(view: ChatsView) -> list[str]:
    return [one.title for one in view.chats]


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


def test_pins_come_first_and_then_what_changed_last() -> None:
    view = view_of(
        sync(
            chat("a", updated_at=NOW),
            chat("b", updated_at=NOW + minutes(1)),
            chat("c", pin_position=2),
            chat("d", pin_position=1),
            has_more=True,
        )
    )
    assert titles(view) == ["d", "c", "b", "a"]
    assert (view.has_more, view.next_cursor) == (True, "next")

    view.apply(status("a", 2, updated_at=NOW + minutes(2)))

    assert titles(view) == ["d", "c", "a", "b"]


def test_a_turn_shows_as_status_outcome_and_unread() -> None:
    error = ChatError("auth", "no")
    action = PendingAction((), NOW)
    view = view_of(sync(chat("a", last_error=error)))
    one = ChatId("a")

    view.apply(status("a", 2))
    running = view.get(one)
    assert running is not None
    assert (running.status, running.last_error, running.has_unread) == (Status.RUNNING, None, False)

    view.apply(e.ActionRequired(chat_id=one, snapshot_version=3, action=action))
    view.apply(status("a", 3, Status.REQUIRES_ACTION))
    waits = view.get(one)
    assert waits is not None
    assert (waits.status, waits.action) == (Status.REQUIRES_ACTION, action)

    view.apply(e.ChatErrored(chat_id=one, snapshot_version=4, error=error))
    view.apply(status("a", 4, Status.ERROR, outcome="error", has_unread=True))
    ended = view.get(one)
    assert ended is not None
    assert (ended.last_error, ended.action) == (error, None)
    assert (ended.last_outcome, ended.has_unread, ended.snapshot_version) == ("error", True, 4)


def test_archived_chats_leave_the_list_and_come_back() -> None:
    view = view_of(sync(chat("a", pin_position=1), chat("b")))

    view.apply(e.ChatArchived(chat_id=ChatId("a"), snapshot_version=2))
    assert titles(view) == ["b"]
    assert [(one.title, one.pin_position) for one in view.archived] == [("a", None)]

    view.apply(e.ChatUnarchived(chat_id=ChatId("a"), snapshot_version=3))
    assert sorted(titles(view)) == ["a", "b"]


def test_a_deleted_chat_does_not_come_back() -> None:
    view = view_of(sync(chat("a")), e.ChatDeleted(chat_id=ChatId("a"), snapshot_version=2))

    view.apply(status("a", 2))
    view.put(chat("a"))

    assert (view.chats, view.unknown) == ((), set())


def test_a_chat_on_no_page_has_to_be_read() -> None:
    view = view_of(sync(chat("a")), status("old", 7))
    assert view.unknown == {"old"}

    view.put(chat("old", snapshot_version=8))
    view.apply(status("old", 8))  # was read already

    assert view.unknown == set()
    read = view.get(ChatId("old"))
    assert read is not None
    assert read.status is Status.WAITING
    view.apply(status("gone", 3))
    view.forget(ChatId("gone"))
    assert view.unknown == set()


def test_an_older_answer_does_not_replace_what_is_known() -> None:
    view = view_of(sync(chat("a")), status("a", 5))

    view.put(chat("a", snapshot_version=4))

    assert [one.status for one in view.chats] == [Status.RUNNING]


def test_a_gap_begins_anew() -> None:
    view = view_of(sync(chat("a")), status("x", 5), FeedGap(reason="epoch", requested="d.1"))
    assert titles(view) == ["a"]

    view.apply(sync(chat("b")))
    assert titles(view) == ["b"]
    assert view.unknown == set()
    view.apply(FeedSync(epoch="e", position=9, head=9))
    assert titles(view) == ["b"]


@pytest.mark.parametrize("repeated", [1, 2])
@given(data=st.data())
def test_a_snapshot_may_be_taken_anywhere_and_pieces_may_come_twice(
    repeated: int, data: st.DataObject
) -> None:
    """Two chats; at any moment a snapshot knows more than the position that it is sent with."""
    truth = {name: chat(name) for name in "ab"}
    log: list[FeedEvent] = []
    truths = [dict(truth)]
    for step in data.draw(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=8)):
        old = truth[step]
        version = old.snapshot_version + 1
        running = old.status is Status.WAITING
        new = msgspec.structs.replace(
            old,
            snapshot_version=version,
            history_version=version,
            status=Status.RUNNING if running else Status.WAITING,
            title=f"{step}{version}",
            updated_at=NOW + minutes(len(log)),
            last_outcome=old.last_outcome if running else "completed",
            has_unread=old.has_unread or not running,
        )
        # One transition, two events: the first has all but the status.
        whole = msgspec.structs.replace(new, status=old.status, updated_at=old.updated_at)
        log.append(e.ChatUpdated(chat_id=old.id, snapshot_version=version, chat=whole))
        ended = {} if running else {"outcome": "completed", "has_unread": True}
        log.append(status(step, version, new.status, updated_at=new.updated_at, **ended))
        truth[step] = new
        truths += [dict(truth)] * 2

    taken = data.draw(st.integers(0, len(truths) - 1))
    position = data.draw(st.integers(0, taken))
    view = view_of(sync(*truths[taken].values()))
    for event in log[position:]:
        for _ in range(repeated):
            view.apply(event)

    assert {one.id: one for one in view.chats} == {one.id: one for one in truth.values()}


def test_events_of_agents_are_not_of_the_list_until_they_are_chats_of_their_own() -> None:
    agent = chat("agent", parent_id=ChatId("a"))
    created = e.ChatCreated(chat_id=agent.id, snapshot_version=1, parent_id=ChatId("a"), chat=agent)
    view = view_of(sync(chat("a")), created, status("agent", 2, parent_id=ChatId("a")))
    assert (titles(view), view.unknown) == (["a"], set())

    view.apply(
        e.ChatUpdated(chat_id=agent.id, snapshot_version=3, chat=chat("agent", snapshot_version=3))
    )
    assert sorted(titles(view)) == ["a", "agent"]
