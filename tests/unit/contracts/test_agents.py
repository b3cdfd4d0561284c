"""What models are told about agents."""

from __future__ import annotations

import pytest

from steersman_contracts.agents import (
    MAX_REPORT,
    AgentState,
    described,
    is_over,
    shortened,
    wait_result,
)
from steersman_contracts.chats import ChatError, Outcome, Status
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import JsonPart

ID = ChatId("01a00000-0000-7000-8000-000000000000")


@pytest.mark.parametrize(
    ("status", "outcome", "archived", "word", "done"),
    [
        (None, None, False, "gone", True),
        (Status.WAITING, None, False, "idle", True),
        (Status.WAITING, "completed", False, "completed", True),
        (Status.WAITING, "interrupted", False, "interrupted", True),
        (Status.WAITING, "completed", True, "archived", True),
        (Status.ERROR, "error", False, "error", True),
        (Status.RUNNING, "completed", False, "running", False),
        (Status.INTERRUPTING, None, False, "interrupting", False),
        (Status.REQUIRES_ACTION, None, False, "paused", False),
    ],
)
def test_every_status_has_a_word_and_counts_as_done_or_not(
    status: Status | None, outcome: Outcome | None, archived: bool, word: str, done: bool
) -> None:
    state = AgentState(ID, status, outcome=outcome, archived=archived)

    assert (state.word, state.is_done) == (word, done)


def test_a_wait_is_over_with_all_or_with_one() -> None:
    states = [AgentState(ID, Status.RUNNING), AgentState(ID, Status.ERROR)]

    assert not is_over(states, any_of=False)
    assert is_over(states, any_of=True)
    assert is_over(states[1:], any_of=False)
    assert not is_over(states[:1], any_of=True)


def test_a_report_is_told_when_it_is_whole_and_an_error_with_it() -> None:
    failed = AgentState(
        ID,
        Status.ERROR,
        title="look",
        kind="explore",
        error=ChatError("overloaded", "busy"),
        cost_micros=7,
        queue_size=2,
        report="half",
    )
    assert described(failed) == {
        "agent_id": ID,
        "status": "error",
        "title": "look",
        "type": "explore",
        "queued_messages": 2,
        "error": "busy",
        "report": "half",
        "cost_micros": 7,
    }
    assert "report" not in described(AgentState(ID, Status.RUNNING, report="half"))
    assert described(AgentState(ID)) == {"agent_id": ID, "status": "gone"}


@pytest.mark.parametrize(("count", "each"), [(1, MAX_REPORT), (4, 30_000), (50, 2_400)])
def test_many_reports_share_the_room_of_a_result(count: int, each: int) -> None:
    states = [AgentState(ID, Status.WAITING, report="x" * 100_000)] * count

    (part,) = wait_result("c", "wait_agent", states, timed_out=False).content

    assert isinstance(part, JsonPart)
    reports = [agent["report"] for agent in part.value["agents"]]
    assert {report.count("x") for report in reports} == {each}
    assert all(f"[… {100_000 - each} characters are left out" in report for report in reports)


def test_what_fits_is_not_shortened() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdef", 3).startswith("ab\n[… 3 ")
    assert shortened("abcdef", 3).endswith("…]\nf")
