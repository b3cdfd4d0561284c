from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_contracts.ids import ChatId
from steersman_runtime.cloud_events import event_headers
from steersman_runtime.nats_client import encode_headers, header, status

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(deadline=None)
@given(st.dictionaries(names, values, max_size=6))
def test_every_value_is_found_again_on_one_line(headers: dict[str, str]) -> None:
    encoded = encode_headers(headers)

    assert encoded.startswith(b"NATS/1.0\r\n")
    assert encoded.endswith(b"\r\n\r\n")
    assert encoded.count(b"\n") == len(headers) + 2
    for name, value in headers.items():
        clean = value.replace("\r", " ").replace("\n", " ").encode().strip()
        assert header(encoded, name.encode()) == clean
    assert header(encoded, b"Not-There-At-All-In-Twenty") is None


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503),
        (b"NATS/1.0 404 No Messages\r\n\r\n", 404),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n", 100),
        (b"NATS/1.0\r\nA: b\r\n\r\n", 0),
        (b"NATS/1.0\r\n503: x\r\n\r\n", 0),
    ],
)
def test_the_status_of_a_control_message(headers: bytes, code: int) -> None:
    assert status(headers) == code


def test_an_event_says_all_that_cloudevents_wants() -> None:
    encoded = encode_headers(event_headers("chat.status", ChatId("chat-1"), "7"))

    assert header(encoded, b"ce-specversion") == b"1.0"
    assert header(encoded, b"ce-type") == b"chat.status"
    assert header(encoded, b"ce-source") == b"/chats/chat-1"
    assert header(encoded, b"ce-id") == b"7"
