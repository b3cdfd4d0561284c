"""No status without a way out: read from the table of transitions, so a new status is included."""

from __future__ import annotations

from collections.abc import Container

import pytest

from steersman_contracts.chats import Status, Transition
from steersman_store.transitions import ARCHIVED, TRANSITIONS

OWNER = frozenset(
    {
        Transition.ACQUIRE,
        Transition.ABANDON,
        Transition.BEGIN_ATTEMPT,
        Transition.RECORD_RETRY,
        Transition.COMMIT_STEP,
        Transition.ENTER_REQUIRES_ACTION,
        Transition.FINISH_TURN,
        Transition.FINISH_INTERRUPTION,
        Transition.FINISH_ERROR,
    }
)
CLOCK = frozenset({Transition.CANCEL_REQUIRES_ACTION, Transition.RESOLVE_WAIT})
PERSON = frozenset(Transition) - OWNER - CLOCK
"""Who is not named above is a person: what is new has to be put there to count as automatic."""

RESTING = frozenset({Status.WAITING, Status.ERROR})


def exits(status: Status, by: Container[Transition]) -> set[Status]:
    """Where these transitions lead from a status, other than to itself."""
    return {
        to
        for (come_from, transition), after in TRANSITIONS.items()
        if come_from is status and transition in by
        for to in (after.status, after.with_backlog)
        if to is not status
    }


def reachable(status: Status, by: Container[Transition]) -> set[Status]:
    """Every status that these transitions can lead to, however many it takes."""
    found = {status}
    while more := {to for known in found for to in exits(known, by)} - found:
        found |= more
    return found


@pytest.mark.parametrize("status", Status)
def test_a_chat_that_does_not_rest_comes_to_rest_without_a_person(status: Status) -> None:
    assert reachable(status, OWNER | CLOCK) & RESTING


@pytest.mark.parametrize("status", Status)
def test_a_person_can_always_bring_a_chat_back_to_work(status: Status) -> None:
    assert Status.RUNNING in reachable(status, PERSON)


@pytest.mark.parametrize("status", Status)
def test_what_an_owner_ends_another_owner_can_take_over(status: Status) -> None:
    if exits(status, OWNER):
        assert (status, Transition.ACQUIRE) in TRANSITIONS
        assert (status, Transition.ABANDON) in TRANSITIONS


@pytest.mark.parametrize("status", Status)
def test_every_chat_can_be_deleted_whatever_it_is_at(status: Status) -> None:
    assert (status, Transition.DELETE) in TRANSITIONS


@pytest.mark.parametrize("status", Status)
def test_what_can_be_archived_can_come_back(status: Status) -> None:
    if (status, Transition.ARCHIVE) in TRANSITIONS:
        assert ARCHIVED[status, Transition.UNARCHIVE].status is status
