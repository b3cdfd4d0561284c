from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from steersman_chatloop.ahead import Commit, Overtaken, foreseen, is_as_foreseen, may_go_ahead
from steersman_contracts.chats import Message, Role, Status
from steersman_contracts.ids import ChatId, MessageId, ModelName, UserId
from steersman_contracts.parts import FilePart, JsonPart, Part, TextPart, ToolResultPart
from steersman_contracts.rpc.worker import ModelAccess, NewMessage, OwnedChat
from steersman_contracts.terms import Terms

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = ModelAccess(ModelName("p/m"), "openai-chat", "p", "m")
CHAT = OwnedChat(
    ChatId("c"), UserId("u"), Status.RUNNING, 7, 7, 0, MODEL, steps=1, terms=Terms(limited=False)
)
STORED = msgspec.structs.replace(
    CHAT, snapshot_version=8, history_version=8, generation_attempt=1, begun=True
)


def results(*content: Any) -> tuple[NewMessage, ...]:
    return (NewMessage(Role.TOOL, (ToolResultPart("1", "look", content),)),)


def stored(*parts: Part, role: Role = Role.TOOL) -> Message:
    return Message(MessageId(3), role, parts, 8, NOW)


SEEN = results(TextPart("seen"))


def test_it_goes_ahead_unless_the_store_has_a_say() -> None:
    unclear: list[dict[str, Any]] = [
        {"terms": Terms()},  # of a store that does not say
        {"parent_id": ChatId("above")},
        {"status": Status.INTERRUPTING},
    ]

    assert may_go_ahead(CHAT, SEEN)
    assert not any(may_go_ahead(msgspec.structs.replace(CHAT, **c), SEEN) for c in unclear)
    assert not may_go_ahead(CHAT, results(FilePart("image/png", data=b"x")))


def test_what_is_foreseen_is_the_history_with_the_results() -> None:
    history = [stored(TextPart("go"), role=Role.USER)]

    ahead = foreseen(history, SEEN)

    assert ahead[0] is history[0]
    assert [(m.id, m.role, m.parts) for m in ahead[1:]] == [(4, Role.TOOL, SEEN[0].parts)]
    assert foreseen([], ()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"begun": False},
        {"status": Status.INTERRUPTING},
        {"compaction_requested": True},
        {"effort": "high"},
        {"system_prompt": "Another one."},
        {"model": msgspec.structs.replace(MODEL, disabled="provider_disabled")},
        {"model": msgspec.structs.replace(MODEL, api_key="another")},
        {"terms": Terms(limited=False, plan_mode=True)},
        {"terms": Terms(limited=True)},
        {"steps": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_about_the_next_call_must_be_as_it_was(change: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(STORED, **change)

    assert is_as_foreseen(CHAT, STORED, SEEN, [stored(*SEEN[0].parts)])
    assert not is_as_foreseen(CHAT, changed, SEEN, [stored(*SEEN[0].parts)])


def test_what_was_stored_must_be_what_was_to_be_stored() -> None:
    said = results(JsonPart({"of": (1, 2)}))
    read_back = ToolResultPart("1", "look", (JsonPart({"of": [1, 2]}),))
    cut = ToolResultPart("1", "look", (TextPart("se"),))

    assert is_as_foreseen(CHAT, STORED, said, [stored(read_back)])
    assert not is_as_foreseen(CHAT, STORED, SEEN, [stored(cut)])
    assert not is_as_foreseen(CHAT, STORED, SEEN, [stored(*SEEN[0].parts, role=Role.USER)])
    assert not is_as_foreseen(CHAT, STORED, SEEN, [])


class Asking:
    """A model call that is never answered."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = False

    async def __call__(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


@pytest.mark.parametrize("fails", [True, False])
async def test_a_commit_that_is_refused_or_changes_the_plan_ends_the_call_at_once(
    fails: bool,
) -> None:
    asking = Asking()

    async def work() -> None:
        await asking.began.wait()
        if fails:
            raise LookupError

    async with asyncio.timeout(20):
        commit = Commit(work(), lambda: False)
        with pytest.raises(Overtaken):
            await commit.beside(asking)

        assert asking.ended
        if fails:
            with pytest.raises(LookupError):
                await commit.outcome()
        else:
            assert await commit.outcome() is False


async def test_a_call_that_is_ended_leaves_the_commit_alone() -> None:
    asking, go_on = Asking(), asyncio.Event()

    async def work() -> None:
        await go_on.wait()

    async with asyncio.timeout(20):
        commit = Commit(work(), lambda: True)
        beside = asyncio.create_task(commit.beside(asking))
        await asking.began.wait()
        beside.cancel()
        await asyncio.wait({beside})
        go_on.set()

        assert (beside.cancelled(), asking.ended) == (True, True)
        assert await commit.outcome() is True


async def test_the_answer_goes_on_once_the_commit_has_said_so() -> None:
    order: list[str] = []

    async def work() -> None:
        order.append("stored")

    async def ask() -> None:
        await commit.foreseen()
        order.append("heard")

    commit = Commit(work(), lambda: True)
    await commit.beside(ask)

    assert order == ["stored", "heard"]
