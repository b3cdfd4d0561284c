from __future__ import annotations

from typing import get_args

import pytest

from steersman_contracts import events
from steersman_contracts.events import CHAT_EVENTS, EVENTS, DurableEvent, Event, EventName

DURABLE_NOT = {
    "part.delta",
    "preview.reset",
    "tool.progress",
    "desktop.control_changed",
    "workspace.diff",
    "stream.sync",
    "stream.gap",
}


def test_every_name_has_one_type_and_every_type_a_name() -> None:
    names = get_args(EventName)

    assert list(EVENTS) == [event.name for event in CHAT_EVENTS]
    assert set(EVENTS) == set(names)
    assert len(names) == len(set(names)) == len(CHAT_EVENTS)
    defined = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, Event)
    }
    assert defined - {Event, DurableEvent} == set(CHAT_EVENTS)


@pytest.mark.parametrize("event", CHAT_EVENTS, ids=lambda event: event.name)
def test_the_name_is_not_in_the_body_and_the_chat_is(event: type[Event]) -> None:
    assert "name" not in event.__struct_fields__
    assert "chat_id" in event.__struct_fields__
    assert event.__struct_config__.tag is None


def test_exactly_what_is_stored_carries_the_snapshot_version() -> None:
    assert {name for name, event in EVENTS.items() if not issubclass(event, DurableEvent)} == (
        DURABLE_NOT
    )
    for event in CHAT_EVENTS:
        assert ("snapshot_version" in event.__struct_fields__) == issubclass(event, DurableEvent)
