"""Frames are valid server-sent events, whatever the payload; the mailbox is bounded."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.client.sse import SseParser
from steersman_contracts.events import EVENTS, StreamGap, StreamSync
from steersman_contracts.ids import ChatId
from steersman_gateway.event_log import Entry
from steersman_gateway.events import parse_types
from steersman_gateway.frames import EVERYTHING, PING, Frame, Wanted, frame, notice, position
from steersman_gateway.viewers import MAX_BYTES, MAX_FRAMES, Mailbox

CHAT = ChatId("01970000-0000-7000-8000-000000000001")


def test_a_frame_holds_the_stored_bytes() -> None:
    built = frame("abc", Entry(7, b"part.delta", b'{"a":"\xe2\x98\x83"}'))

    assert built.data == b'id: abc.7\nevent: part.delta\ndata: {"a":"\xe2\x98\x83"}\n\n'
    assert (built.seq, built.name) == (7, b"part.delta")


@given(st.binary())
def test_a_frame_ends_at_its_end_and_nowhere_before(payload: bytes) -> None:
    data = frame("e", Entry(1, b"x", payload)).data

    assert data.count(b"\n") == 4
    assert b"\r" not in data
    assert data.endswith(b"\n\n")


def test_a_notice_has_an_id_only_when_it_is_a_position() -> None:
    sync = notice(StreamSync(chat_id=CHAT, epoch="e", position=3, head=3), "e.3")
    gap = notice(StreamGap(chat_id=CHAT, reason="epoch", requested="d.1"))

    assert sync.startswith(b"id: e.3\nevent: stream.sync\ndata: {")
    assert gap.startswith(b"event: stream.gap\ndata: {")
    body = msgspec.json.decode(gap.split(b"data: ")[1])
    assert body == {"chat_id": CHAT, "reason": "epoch", "requested": "d.1"}


@pytest.mark.parametrize("name", sorted(EVENTS))
@pytest.mark.parametrize("deltas", [True, False])
@pytest.mark.parametrize("types", [None, "chat.status", "part.delta", ""])
def test_a_filter_looks_at_names_alone(name: str, deltas: bool, types: str | None) -> None:
    wanted = Wanted(deltas, None if types is None else parse_types(types))

    expected = (types is None or name in types.split(",")) and (deltas or name != "part.delta")
    assert (name.encode() in wanted) == expected


def item(seq: int, *, name: bytes = b"part.delta", size: int = 10) -> Frame:
    return Frame(seq, name, b"%d," % seq + b"x" * size)


def live(wanted: Wanted = EVERYTHING, position: int = 0) -> Mailbox:
    box = Mailbox(wanted, position)
    box.live = True
    return box


def test_a_mailbox_gives_everything_that_waits_at_once() -> None:
    box = live()
    frames = [item(1), item(3), item(4)]
    for each in frames:
        assert box.offer(each)

    assert box.take() == b"".join(each.data for each in frames)
    assert box.sent == 4
    assert box.take() == b""


def test_a_mailbox_takes_nothing_twice_and_nothing_before_it_is_live() -> None:
    box = Mailbox(EVERYTHING, 5)
    assert not box.offer(item(6))
    box.live = True
    assert not box.offer(item(5))
    assert box.offer(item(6))
    assert not box.offer(item(6))

    assert box.take() == item(6).data


@pytest.mark.parametrize(
    ("count", "size"), [(MAX_FRAMES + 1, 1), (3, MAX_BYTES // 3)], ids=["frames", "bytes"]
)
def test_a_mailbox_that_runs_over_is_emptied_and_knows_where_to_go_on(
    count: int, size: int
) -> None:
    box = live()
    box.offer(item(1))
    box.take()
    for seq in range(2, count + 2):
        assert box.live
        box.offer(item(seq, size=size))

    assert not box.live
    assert box.take() == b""
    assert box.sent == 1

    entries = [Entry(seq, b"part.delta", b"{}") for seq in range(1, 4)]
    assert box.accept(entries, "e").count(b"event:") == 2  # 1 was sent before
    assert box.sent == 3


def test_what_is_not_wanted_moves_the_position_all_the_same() -> None:
    box = live(Wanted(deltas=False))
    assert not box.offer(item(1))
    assert box.sent == 1

    assert box.offer(item(2, name=b"chat.status"))
    box.offer(item(3))
    assert box.sent == 1  # 2 is not written yet
    assert box.take() == item(2, name=b"chat.status").data
    assert box.sent == 3


def test_a_mailbox_knows_which_id_the_client_has() -> None:
    box = live(Wanted(deltas=False))
    box.offer(item(1))
    assert (box.sent, box.told) == (1, 0)

    box.offer(item(2, name=b"chat.status"))
    box.offer(item(3))
    box.take()
    assert (box.sent, box.told) == (3, 2)

    box.accept([Entry(4, b"chat.status", b"{}"), Entry(5, b"part.delta", b"{}")], "e")
    assert (box.sent, box.told) == (5, 4)
    box.begin(9)
    assert (box.sent, box.told) == (9, 9)


def test_a_position_moves_a_client_on_and_is_no_event() -> None:
    parser = SseParser("e.1")

    assert list(parser.feed(PING[:-1] + position("e", 7))) == []
    assert parser.last_id == "e.7"
    (after,) = parser.feed(b"data: x\n\n")
    assert after.id == "e.7"


def test_half_a_position_is_none() -> None:
    parser = SseParser("e.1")

    assert list(parser.feed(position("e", 7)[:-1])) == []
    assert parser.last_id == "e.1"
