from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeGuard

import pytest
from contract.contracts.structs import modules
from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts import subjects
from steersman_contracts.ids import ChatId, RunnerId
from steersman_contracts.rpc import Method

CHAT = ChatId("0190a0a0-0000-7000-8000-000000000001")


def is_method(value: Any) -> TypeGuard[Method[Any, Any]]:
    return isinstance(value, Method)


def all_methods() -> list[Method[Any, Any]]:
    found = [value for module in modules() for value in vars(module).values()]
    return [value for value in found if is_method(value)]


METHODS = all_methods()

CHAT_SUBJECTS: list[Callable[[ChatId], str]] = [
    subjects.chat_events,
    subjects.chat_live,
    subjects.chat_work,
]


@pytest.mark.parametrize(
    ("chat_id", "partition"),
    [
        ("0190a0a0-0000-7000-8000-000000000001", 0x6A),
        ("0190a0a0-0000-7000-8000-000000000002", 0xD0),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", 0x06),
        ("123456789", 0x26),
    ],
)
def test_the_partition_of_a_chat_never_changes(chat_id: str, partition: int) -> None:
    """Crc32 modulo 256: streams are split by it, so stored subjects depend on it for ever."""
    assert subjects.partition(ChatId(chat_id)) == partition
    assert subjects.chat_events(ChatId(chat_id)) == f"steersman.v1.ev.{partition:02x}.{chat_id}"


def test_the_subjects_are_what_they_always_were() -> None:
    assert subjects.chat_live(CHAT) == f"steersman.v1.live.6a.{CHAT}"
    assert subjects.chat_work(CHAT) == f"steersman.v1.work.6a.{CHAT}"
    assert subjects.control(RunnerId("loop-1")) == "steersman.v1.ctl.loop-1"
    assert subjects.tool_cancel("all") == "steersman.v1.tools.cancel.all"
    assert subjects.relay_nudge(3) == "steersman.v1.relay.nudge.3"
    assert subjects.rpc("store", "chats.get") == "steersman.v1.rpc.store.chats.get"
    assert subjects.rpc_group("store", "chats") == "steersman.v1.rpc.store.chats.>"
    assert subjects.inbox("store") == "_INBOX_store"


@pytest.mark.parametrize("make", CHAT_SUBJECTS)
def test_a_subject_names_its_chat(make: Callable[[ChatId], str]) -> None:
    assert subjects.chat_of(make(CHAT)) == CHAT


def fits(subject: str, pattern: str) -> bool:
    """Whether NATS delivers a subject to a subscription."""
    expression = re.escape(pattern).replace(r"\*", r"[^.]+").replace(">", ".+")
    return re.fullmatch(expression, subject) is not None


@pytest.mark.parametrize(
    ("subject", "pattern"),
    [
        (subjects.chat_events(CHAT), subjects.EVENT_SUBJECTS),
        (subjects.chat_events(CHAT), subjects.EVENT_REPUBLISH_SOURCE),
        (subjects.chat_live(CHAT), subjects.LIVE_SUBJECTS),
        (subjects.chat_work(CHAT), subjects.WORK_SUBJECTS),
        (subjects.control(RunnerId("r")), subjects.CONTROL_SUBJECTS),
        (subjects.relay_nudge(0), subjects.RELAY_NUDGES),
        (subjects.tool_cancel("all"), subjects.TOOL_CANCELS),
    ],
)
def test_each_subject_is_in_its_own_family_alone(subject: str, pattern: str) -> None:
    families = {
        subjects.EVENT_SUBJECTS,
        subjects.LIVE_SUBJECTS,
        subjects.WORK_SUBJECTS,
        subjects.CONTROL_SUBJECTS,
        subjects.RELAY_NUDGES,
        subjects.TOOL_CANCELS,
    }

    assert {family for family in families if fits(subject, family)} == {pattern}


def test_an_event_is_republished_under_the_live_subject_of_its_chat() -> None:
    _, _, _, partition, chat_id = subjects.chat_events(CHAT).split(".")
    target = subjects.EVENT_REPUBLISH_TARGET

    live = target.replace("{{wildcard(1)}}", partition).replace("{{wildcard(2)}}", chat_id)

    assert live == subjects.chat_live(CHAT)


BAD_TOKENS = ["", "a.b", "*", ">", "a b", "a\t", "a\n", "ä", "a/b", "x" * 65, "a.>"]
BUILDERS: list[Callable[[Any], str]] = [
    *CHAT_SUBJECTS,
    subjects.token,
    subjects.control,
    subjects.tool_cancel,
    subjects.my_events,
    subjects.inbox,
    lambda value: subjects.rpc(value, "group.name"),
    lambda value: subjects.rpc_group("store", value),
]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("value", BAD_TOKENS)
def test_what_would_address_others_is_refused(value: str, build: Callable[[Any], str]) -> None:
    with pytest.raises(ValueError, match="not a subject token"):
        build(value)


@given(st.text(max_size=70))
def test_a_token_is_one_token(value: str) -> None:
    try:
        accepted = subjects.token(value)
    except ValueError:
        return

    assert accepted == value
    assert value.isascii()
    assert not set(value) & set(".*> \t\r\n")
    assert 1 <= len(value) <= 64


def test_every_method_has_a_subject_of_its_own() -> None:
    assert len(METHODS) > 25
    assert len({method.subject for method in METHODS}) == len(METHODS)
    assert {method.service for method in METHODS} == {"store", "tools", "desktop", "chatloop"}
    for method in METHODS:
        group = method.name.split(".")[0]
        assert fits(method.subject, subjects.rpc_group(method.service, group))
        assert method.deadline_s > 0
