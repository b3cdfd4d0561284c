from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.cli.chat_log import CHAT_ID, NOW, ChatLog, new_chat, sent, sync

from steersman.client.reducer import View
from steersman_contracts import events as e
from steersman_contracts.chats import ChatSnapshot, PendingAction, PendingWait, Role, Status
from steersman_contracts.deltas import (
    Delta,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from steersman_contracts.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.terms import LimitReached

PIECES = st.text("abc {}\n", min_size=1, max_size=4)


@st.composite
def steps(draw: st.DrawFn) -> list[list[Delta]]:
    """Deltas of an attempt, in events: reasoning, then text, then a call."""
    deltas: list[Delta] = [ReasoningDelta(0, text) for text in draw(st.lists(PIECES, max_size=2))]
    index = 1 if deltas else 0
    texts = draw(st.lists(PIECES, max_size=4))
    deltas += [TextDelta(index, text) for text in texts]
    if draw(st.booleans()):
        index += 1 if texts else 0
        deltas.append(ToolCallStarted(index, f"call{draw(st.integers(0, 9))}", "t"))
        deltas += [ToolArgumentsDelta(index, text) for text in ('{"a"', ": 1}")]
    events: list[list[Delta]] = []
    for delta in deltas:
        if not events or draw(st.booleans()):
            events.append([])
        events[-1].append(delta)
    return events


def attempt(chat: ChatLog, events: list[list[Delta]]) -> None:
    chat.begin()
    for deltas in events:
        chat.stream(*deltas)


@st.composite
def chats(draw: st.DrawFn) -> ChatLog:
    """A chat with a few turns, and whatever may happen in them."""
    chat = ChatLog()
    chat.send("hello")
    for _ in range(draw(st.integers(1, 6))):
        if chat.chat.status in {Status.WAITING, Status.ERROR}:
            chat.send("again")
        for _ in range(draw(st.integers(0, 2))):
            draw(st.sampled_from([chat.send, chat.rename]))("meanwhile")
        for failed in [True] * draw(st.integers(0, 2)) + [False]:
            attempt(chat, draw(steps()))
            if failed:
                chat.retry()
        match draw(st.sampled_from(["end", "interrupt", "error", "tools", "edit"])):
            case "end":
                chat.end("completed")
            case "interrupt":
                chat.end("interrupted")
            case "error":
                chat.end("error")
            case "tools":
                chat.commit()
                for seq in range(1, draw(st.integers(1, 4))):
                    chat.progress("call1", seq)
                chat.begin()
                chat.commit((Role.TOOL, (ToolResultPart("call1", "t"),)))
            case _:
                users = [m.id for m in chat.messages if m.role is Role.USER]
                chat.edit(draw(st.sampled_from(users)))
    if chat.chat.status is Status.RUNNING and draw(st.booleans()):
        chat.begin()
        chat.end("completed")
    return chat


def shown(view: View) -> object:
    """Everything that a view shows. A snapshot does not know of progress."""
    chat = view.chat
    assert chat is not None
    return (
        msgspec.structs.replace(chat, snapshot_version=0),
        view.messages,
        view.queue,
        view.preview,
        view.preview_lost,
        view.retry,
        view.deleted,
    )


def everything(view: View) -> object:
    return shown(view), view.progress, view.version


@settings(max_examples=50, deadline=None)
@given(chats())
def test_the_view_is_what_the_store_has(chat: ChatLog) -> None:
    view = View().apply_all(sent(chat.log))

    truth = chat.truths[-1]
    assert view.chat == truth.chat
    assert view.messages == truth.messages
    assert view.queue == truth.queue


@settings(max_examples=50, deadline=None)
@given(chats(), st.data())
def test_deltas_may_overtake_what_is_stored(chat: ChatLog, data: st.DataObject) -> None:
    ordered = list(sent(chat.log))
    early = list(ordered)
    overtaking = st.sets(st.sampled_from(range(len(early))), max_size=8)
    for start in sorted(data.draw(overtaking)):
        place = start
        while place and isinstance(early[place], e.PartDelta) and _is_stored(early[place - 1]):
            early[place - 1 : place + 1] = early[place], early[place - 1]
            place -= 1

    one, other = View(), View()
    for place, (this, that) in enumerate(zip(ordered, early, strict=True), start=1):
        one.apply(this)
        other.apply(that)
        if {id(event) for event in ordered[:place]} == {id(event) for event in early[:place]}:
            assert everything(other) == everything(one)


def _is_stored(event: e.Event) -> bool:
    return isinstance(event, e.DurableEvent)


@settings(max_examples=50, deadline=None)
@given(chats(), st.data())
def test_repeated_events_change_nothing(chat: ChatLog, data: st.DataObject) -> None:
    once, again = View(), View()
    for place, event in enumerate(chat.log):
        once.apply(event)
        again.apply(event)
        if data.draw(st.booleans()):
            start = data.draw(st.integers(0, place))
            again.apply_all(chat.log[start : place + 1])

        assert everything(again) == everything(once)


@settings(max_examples=50, deadline=None)
@given(chats(), st.data())
def test_a_resumed_stream_gives_the_same_view(chat: ChatLog, data: st.DataObject) -> None:
    view, whole = View(), View().apply_all(chat.log)
    for event in chat.log:
        if data.draw(st.booleans()):
            view.apply(sync(None))
        view.apply(event)

    assert everything(view) == everything(whole)


@settings(max_examples=50, deadline=None)
@given(chats(), st.data())
def test_a_snapshot_at_any_moment_gives_the_same_view(chat: ChatLog, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(chat.log) - 1))
    stored_at = data.draw(st.integers(position, len(chat.log) - 1))
    view = View().apply_all(chat.log[: data.draw(st.integers(0, position))])

    view.apply(sync(chat.snapshot(stored_at, position)))
    view.apply_all(chat.log[position + 1 :])

    whole = View().apply_all(chat.log)
    if view.resting or stored_at == position:
        assert shown(view) == shown(whole)
    assert view.messages == whole.messages


@settings(max_examples=50, deadline=None)
@given(chats(), st.data())
def test_a_lost_delta_hides_the_preview_and_nothing_else(
    chat: ChatLog, data: st.DataObject
) -> None:
    deltas = [place for place, event in enumerate(chat.log) if isinstance(event, e.PartDelta)]
    lost = data.draw(st.sets(st.sampled_from(deltas))) if deltas else set[int]()
    whole, view = View(), View()
    for place, event in enumerate(chat.log):
        whole.apply(event)
        if place not in lost:
            view.apply(event)
        assert view.messages == whole.messages
        if view.preview is not None and whole.preview is not None:
            assert view.preview.seq <= whole.preview.seq
            if view.preview.seq == whole.preview.seq:
                assert view.preview == whole.preview


def streaming() -> ChatLog:
    chat = ChatLog()
    chat.send("hello")
    chat.begin()
    chat.stream(ReasoningDelta(0, "hm"))
    chat.stream(TextDelta(1, "Hel"), TextDelta(1, "lo"))
    return chat


def test_a_preview_goes_on_after_a_snapshot() -> None:
    chat = streaming()
    view = View()
    view.apply(sync(chat.snapshot(len(chat.log) - 1, len(chat.log) - 1)))
    chat.stream(TextDelta(1, "!"), ToolCallStarted(2, "c", "read"), ToolArgumentsDelta(2, '{"p'))

    view.apply(chat.log[-1])

    preview = view.preview
    assert preview is not None
    assert preview.parts == (
        ReasoningPart("hm"),
        TextPart("Hello!"),
        ToolCallPart("c", "read", {}, invalid='{"p'),
    )
    again = View()
    again.apply(sync(chat.snapshot(len(chat.log) - 1, len(chat.log) - 1)))
    chat.stream(ToolArgumentsDelta(2, 'ath": 1}'))
    again.apply(chat.log[-1])
    assert again.preview is not None
    assert again.preview.parts[-1] == ToolCallPart("c", "read", {"path": 1})


def test_a_hole_in_the_deltas_hides_the_preview_until_the_message_is_there() -> None:
    chat = streaming()
    chat.stream(TextDelta(1, " there"))
    view = View().apply_all([*chat.log[:-2], chat.log[-1]])
    assert view.preview is None
    assert view.preview_lost

    chat.end("completed")
    view.apply_all(chat.log[-2:])

    assert not view.preview_lost
    assert view.messages == tuple(chat.messages)


def test_a_delta_of_a_newer_episode_starts_a_preview() -> None:
    chat = streaming()
    view = View().apply_all(chat.log)
    newer = e.PartDelta(
        chat_id=CHAT_ID, history_version=99, attempt=1, seq=1, deltas=(TextDelta(0, "new"),)
    )
    view.apply(newer)
    view.apply(chat.log[-1])

    assert view.preview is not None
    assert view.preview.parts == (TextPart("new"),)


def test_a_retry_shows_when_it_comes_and_clears_what_was_streamed() -> None:
    chat = streaming()
    chat.retry()
    view = View().apply_all(chat.log)
    assert view.retry is not None
    assert view.preview is None

    chat.begin()
    view.apply(chat.log[-1])

    assert view.retry is None


def test_a_client_that_attaches_during_a_retry_sees_it_until_the_next_attempt() -> None:
    chat = streaming()
    chat.retry()
    late = View().apply_all([sync(chat.snapshot(len(chat.log) - 1, len(chat.log) - 1))])
    assert late.retry is not None
    assert late.retry == View().apply_all(chat.log).retry
    assert late.preview is None

    chat.begin()
    late.apply(chat.log[-1])

    assert late.retry is None


def test_an_interrupt_ends_the_wait_for_a_retry() -> None:
    chat = streaming()
    chat.retry()
    view = View().apply_all(chat.log)
    version = chat.chat.snapshot_version + 1
    view.apply(
        e.ChatStatusChanged(
            chat_id=CHAT_ID,
            snapshot_version=version,
            status=Status.INTERRUPTING,
            history_version=chat.chat.history_version,
        )
    )

    assert view.retry is None


def test_progress_of_a_tool_ends_with_its_result() -> None:
    chat = streaming()
    chat.commit()
    chat.progress("c1", 1)
    chat.progress("c1", 2)
    view = View().apply_all(chat.log)
    view.apply(chat.log[-2])
    assert view.progress == {"c1": "c1 2"}

    chat.commit((Role.TOOL, (ToolResultPart("c1", "t"),)))
    view.apply_all(chat.log[-2:])

    assert view.progress == {}


def test_an_edit_removes_what_follows_and_keeps_its_replacement() -> None:
    chat = streaming()
    chat.end("completed")
    first = chat.messages[0].id
    chat.edit(first)
    view = View().apply_all(chat.log)
    reset = next(event for event in chat.log if isinstance(event, e.HistoryReset))

    view.apply(reset)

    assert [m.parts for m in view.messages] == [(TextPart("edited"),)]


def test_an_archived_chat_has_no_pin_until_it_is_back() -> None:
    chat = streaming()
    chat.end("completed")
    view = View().apply_all(chat.log)
    pinned = msgspec.structs.replace(chat.chat, pin_position=1, snapshot_version=50)
    view.apply(e.ChatUpdated(chat_id=CHAT_ID, snapshot_version=50, chat=pinned))
    later = NOW.replace(year=2027)

    view.apply(e.ChatArchived(chat_id=CHAT_ID, snapshot_version=51, updated_at=later))
    assert view.chat is not None
    assert (view.chat.archived, view.chat.pin_position) == (True, None)
    view.apply(e.ChatUnarchived(chat_id=CHAT_ID, snapshot_version=52, updated_at=later))
    view.apply(e.ChatArchived(chat_id=CHAT_ID, snapshot_version=51, updated_at=NOW))

    assert (view.chat.archived, view.chat.updated_at) == (False, later)


def test_a_preview_that_is_reset_is_gone_with_the_rest_of_its_episode() -> None:
    chat = streaming()
    view = View().apply_all(chat.log)
    delta = next(one for one in reversed(chat.log) if isinstance(one, e.PartDelta))
    episode = {"history_version": delta.history_version, "attempt": delta.attempt}
    assert view.preview is not None

    view.apply(e.PreviewReset(chat_id=CHAT_ID, **episode))
    chat.stream(TextDelta(1, "!"))
    view.apply(chat.log[-1])

    assert view.preview is None
    chat.commit()
    view.apply_all(chat.log[-2:])
    assert view.messages == tuple(chat.messages)


def test_a_deleted_chat_rests() -> None:
    chat = streaming()
    view = View().apply_all(chat.log)
    view.apply(e.ChatDeleted(chat_id=CHAT_ID, snapshot_version=99))

    assert view.deleted
    assert view.resting
    assert view.preview is None


@pytest.mark.parametrize("ends", ["attempt", "interrupt", "edit"])
def test_nothing_is_being_summarised_any_more_once_something_else_happens(ends: str) -> None:
    chat = ChatLog()
    chat.send("hello")
    view = View().apply_all(chat.log)
    view.apply(
        e.CompactionStarted(
            chat_id=chat.chat.id,
            snapshot_version=chat.chat.snapshot_version,
            source="manual",
            history_version=chat.chat.history_version,
            attempt=chat.chat.generation_attempt + 1,
        )
    )
    assert view.compacting
    before = len(chat.log)

    match ends:
        case "attempt":
            chat.begin()
        case "interrupt":
            chat.end("interrupted")
        case _:
            chat.edit(chat.messages[0].id)

    assert not view.apply_all(chat.log[before:]).compacting


def test_a_chat_that_waits_for_its_agents_alone_does_not_rest() -> None:
    wait = PendingWait("call", (CHAT_ID,), NOW)
    call = ToolCallPart("other", "pick", {})
    reached = LimitReached("steps", 5, 5)
    for calls, limit, resting in (
        ((), None, False),
        ((call,), None, True),
        ((), reached, True),  # its agents wait for a person
    ):
        action = PendingAction(calls, NOW, waits=(wait,), limit=limit)
        view = View().apply_all([sync(ChatSnapshot(new_chat(Status.RUNNING), ()))])
        view.apply(e.ActionRequired(chat_id=CHAT_ID, snapshot_version=2, action=action))
        view.apply(
            e.ChatStatusChanged(
                chat_id=CHAT_ID,
                snapshot_version=2,
                status=Status.REQUIRES_ACTION,
                history_version=1,
            )
        )
        assert view.resting is resting
