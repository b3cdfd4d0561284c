"""The input is held by the agent or by one person: whatever happens, never by both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.errors import Conflict, Forbidden
from steersman_contracts.ids import UserId
from steersman_desktop import control
from steersman_desktop.control import Lease

START = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = (UserId("ann"), UserId("ben"), UserId("cat"))
LIMIT_S = 60.0

steps = st.lists(
    st.tuples(
        st.sampled_from(("take", "private", "back", "use", "look", "tick", "end")),
        st.sampled_from(PEOPLE),
        st.integers(0, 90),
    ),
    max_size=40,
)


def step(lease: Lease, what: str, person: UserId, now: datetime) -> Lease:
    try:
        match what:
            case "take" | "private":
                return control.take(lease, person, private=what == "private", now=now)
            case "back":
                return control.give_back(lease, person, now=now)
            case "use":
                return control.used(lease, person, now=now)
            case "look":
                return control.looked(lease)
            case "tick":
                return control.idle_out(lease, LIMIT_S, now=now)
            case _:
                return control.end(lease, "disconnected", now=now)
    except (Conflict, Forbidden):
        return lease


@given(steps)
def test_never_two_at_once(taken: list[tuple[str, UserId, int]]) -> None:
    lease, now = Lease(), START
    touched = False
    for what, person, seconds in taken:
        now += timedelta(seconds=seconds)
        before = lease
        lease = step(lease, what, person, now)
        may = [person for person in PEOPLE if control.person_may_act(lease, person)]
        agent = control.why_agent_may_not_act(lease) is None

        assert len(may) + agent <= 1
        # Nobody is put out by another person, only by themselves, time or absence.
        holder = before.control.holder
        if holder is not None and lease.control.holder not in {None, holder}:
            raise AssertionError(what)
        # Who has had control, has changed what the agent knew.
        if lease.control.holder is not None:
            touched = True
        if what == "look" and lease.control.holder is None:
            touched = False
        assert agent == (lease.control.holder is None and not touched)
        changed = lease.control != before.control
        assert lease.control.revision == before.control.revision + changed


@given(steps)
def test_the_screen_is_hidden_only_while_a_person_wants_that(
    taken: list[tuple[str, UserId, int]],
) -> None:
    lease, now = Lease(), START
    for what, person, seconds in taken:
        now += timedelta(seconds=seconds)
        lease = step(lease, what, person, now)
        hidden = control.why_agent_may_not_look(lease) is not None
        assert hidden == lease.control.private
        assert not lease.control.private or lease.control.holder is not None


def test_time_ends_the_control_of_who_does_nothing() -> None:
    lease = control.take(Lease(), PEOPLE[0], private=False, now=START)
    lease = control.used(lease, PEOPLE[0], now=START + timedelta(seconds=30))

    still = control.idle_out(lease, LIMIT_S, now=START + timedelta(seconds=89))
    ended = control.idle_out(lease, LIMIT_S, now=START + timedelta(seconds=90))

    assert still.control.holder == PEOPLE[0]
    assert (ended.control.holder, ended.control.reason) == (None, "timeout")
