"""The page for readers of streams has a rule for every event, and the reducers know them all."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from steersman_contracts.events import EVENTS, RESERVED
from steersman_contracts.feed import FEED_EVENTS
from steersman_gateway.settings import Settings as Gateway
from steersman_gateway.viewers import MAX_BYTES, MAX_FRAMES
from steersman_store.settings import Settings as Store

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "streaming.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SOURCES = [
    path
    for folder in ("services", "plugins", "runtime")
    for pattern in ("*.py", "*.sql")
    for path in (ROOT / folder).rglob(pattern)
    if "src" in path.parts
]


def rules(block: str) -> set[str]:
    """The names that a block of pseudo-code begins its rules with."""
    found: set[str] = set()
    for line in block.splitlines():
        head = re.match(r"(?:on |    )((?:[a-z]+\.[a-z_]+)(?:, [a-z]+\.[a-z_]+)*)(?:$|[ :])", line)
        found |= set(head[1].split(", ")) if head else set()
    return found


def test_each_event_of_a_chat_has_a_rule_in_the_reducer_of_the_page() -> None:
    assert rules(BLOCKS[0]) == set(EVENTS)


def test_each_event_of_the_list_of_chats_has_a_rule_too() -> None:
    assert rules(BLOCKS[1]) == set(FEED_EVENTS)


def test_the_numbers_of_the_page_are_those_of_the_settings() -> None:
    gateway = {field.name: field.default for field in msgspec.structs.fields(Gateway)}
    store = {field.name: field.default for field in msgspec.structs.fields(Store)}

    assert "A comment comes every 15 seconds" in PAGE
    assert gateway["ping_interval_s"] == gateway["write_timeout_s"] == 15
    assert gateway["silence_s"] == 10
    assert store["event_max_age_s"] == 24 * 3600
    assert (MAX_FRAMES, MAX_BYTES) == (256, 1 << 20)


def test_the_reducer_stays_below_a_page() -> None:
    assert len(BLOCKS[0].splitlines()) <= 60
    assert all(len(line) <= 120 for line in BLOCKS[0].splitlines())


def test_what_is_reserved_has_its_rule_and_is_named_by_nobody_who_sends() -> None:
    assert len(SOURCES) > 200
    classes = {EVENTS[name].__name__ for name in RESERVED}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in (*RESERVED, *classes) if word in text], path
    for name in RESERVED:
        assert re.search(rf"{re.escape(name)}\b.*\(reserved\)", PAGE)
