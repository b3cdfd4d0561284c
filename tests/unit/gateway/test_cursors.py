"""Cursors lead back to their position, and nothing else passes for one."""

from __future__ import annotations

import base64
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.errors import BadCursor
from steersman_contracts.ids import ChatId
from steersman_gateway.cursors import decode_cursor, encode_cursor
from steersman_gateway.event_log import epoch_of
from steersman_gateway.event_stream import Cursor, parse_cursor

CHAT = ChatId("01970000-0000-7000-8000-000000000001")


@given(
    st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis wants it naive
    st.uuids(),
)
def test_a_cursor_leads_back_to_its_position(moment: datetime, chat: uuid.UUID) -> None:
    position = moment, ChatId(str(chat))

    cursor = encode_cursor(position)

    assert decode_cursor(cursor) == position
    assert cursor.isascii()
    assert "=" not in cursor


def test_the_time_zone_makes_no_difference() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    there = moment.astimezone(timezone(timedelta(hours=5)))

    assert encode_cursor((there, CHAT)) == encode_cursor((moment, CHAT))


@given(st.text(max_size=300))
def test_text_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        decode_cursor(text)


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        _packed(f"2|2026-01-01T00:00:00+00:00|{CHAT}"),
        _packed("1|2026-01-01T00:00:00+00:00|*"),
        _packed(f"1|2026-01-01T00:00:00|{CHAT}"),
        _packed(f"1|2026-01-01 00:00:00+00:00|{CHAT}"),
        _packed(f"1|yesterday|{CHAT}"),
        _packed(f"1|2026-01-01T00:00:00+00:00|{CHAT}|"),
        encode_cursor((datetime(2026, 1, 1, tzinfo=UTC), CHAT)) + "=",
        encode_cursor((datetime(2026, 1, 1, tzinfo=UTC), CHAT)) + "\n",
        "A" * 10_000,
    ],
)
def test_almost_a_cursor_is_no_cursor(cursor: str) -> None:
    with pytest.raises(BadCursor) as caught:
        decode_cursor(cursor)

    assert caught.value.details == {"field": "cursor"}


def test_a_stream_cursor_is_epoch_and_sequence() -> None:
    assert parse_cursor("hofaxccfpk.12") == Cursor("hofaxccfpk", 12)
    assert str(Cursor("abc", 0)) == "abc.0"


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".1", "a.-1", "a.1.2", "A.1", "a.1\n", "a. 1", "a.\u0661", "a." + "9" * 19],
)
def test_anything_else_is_no_stream_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        parse_cursor(text)


def test_an_epoch_is_short_and_differs_by_the_microsecond() -> None:
    one = epoch_of("2026-11-23T08:38:24.279327194Z")
    other = epoch_of("2026-11-23T08:38:24.279328Z")

    assert one != other
    assert parse_cursor(f"{one}.1").epoch == one
    assert epoch_of("1970-01-01T00:00:00Z") == "0"
