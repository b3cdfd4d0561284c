"""The input is held by one agent or by one person: whatever happens, never by two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.errors import Conflict, Forbidden
from steersman_contracts.ids import ChatId, UserId
from steersman_desktop import control
from steersman_desktop.control import AGENT_S, USED_SINCE, Agent, Lease

START = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = (UserId("ann"), UserId("ben"), UserId("cat"))
LIMIT_S = 60.0

TOP = Agent(ChatId("top"))
CHILD = Agent(ChatId("child"), (TOP.chat_id,))
SIBLING = Agent(ChatId("sibling"), (TOP.chat_id,))
GRANDCHILD = Agent(ChatId("grandchild"), (CHILD.chat_id, TOP.chat_id))
AGENTS = (TOP, CHILD, SIBLING, GRANDCHILD)

steps = st.lists(
    st.tuples(
        st.sampled_from(("take", "private", "back", "use", "look", "agent", "tick", "end")),
        st.sampled_from(PEOPLE),
        st.sampled_from(AGENTS),
        st.integers(0, 90) | st.integers(0, 20),
    ),
    max_size=40,
)


def step(lease: Lease, what: str, person: UserId, agent: Agent, now: datetime) -> Lease:
    try:
        match what:
            case "take" | "private":
                return control.take(lease, person, private=what == "private", now=now)
            case "back":
                return control.give_back(lease, person, now=now)
            case "use":
                return control.used(lease, person, now=now)
            case "look":
                return control.looked(lease, agent)
            case "agent":
                lease = control.agent_takes(lease, agent, busy=False, now=now)
                if control.why_agent_may_not_act(lease, agent, now=now) is None:
                    lease = control.agent_used(lease, agent, now=now)
                return lease
            case "tick":
                return control.idle_out(lease, LIMIT_S, now=now)
            case _:
                return control.end(lease, "disconnected", now=now)
    except (Conflict, Forbidden):
        return lease


@given(steps)
def test_never_two_at_once(taken: list[tuple[str, UserId, Agent, int]]) -> None:
    lease, now = Lease(), START
    knows: set[ChatId] = {agent.chat_id for agent in AGENTS}
    for what, person, agent, seconds in taken:
        now += timedelta(seconds=seconds)
        before = lease
        lease = step(lease, what, person, agent, now)
        people = [person for person in PEOPLE if control.person_may_act(lease, person)]
        agents = [agent for agent in AGENTS if control.agent_has(lease, agent)]

        assert len(people) + len(agents) <= 1
        # Nobody is put out by another person, only by themselves, time or absence.
        holder = before.control.holder
        if holder is not None and lease.control.holder not in {None, holder}:
            raise AssertionError(what)
        # Who has had control, has changed what the agents knew; and so has another agent.
        acts = what == "agent" and control.agent_has(lease, agent) and agent.chat_id in knows
        if lease.control.holder is not None or holder is not None:
            knows = set()
        elif acts:
            knows = {agent.chat_id}
        elif what == "look":
            knows.add(agent.chat_id)
        for each in AGENTS:
            if control.why_agent_may_not_act(lease, each, now=now) is None:
                assert lease.control.holder is None
                assert each.chat_id in knows
        # An agent is put out by one above it, or when it has not used the desktop for a while.
        last, first = before.agent, lease.agent
        if last is not None and first is not None and first.chat_id != last.chat_id:
            assert before.agent_used_at is not None
            idle_s = (now - before.agent_used_at).total_seconds()
            assert first.chat_id in last.above or idle_s >= AGENT_S
        changed = lease.control != before.control
        assert lease.control.revision == before.control.revision + changed


def test_an_agent_yields_to_one_above_and_to_nobody_else() -> None:
    lease = control.agent_takes(Lease(), CHILD, busy=False, now=START)
    lease = control.agent_used(lease, CHILD, now=START)
    soon, later = START + timedelta(seconds=1), START + timedelta(seconds=AGENT_S)

    def why(agent: Agent, now: datetime, *, busy: bool = False) -> str | None:
        return control.why_agent_may_not_act(lease, agent, busy=busy, now=now)

    assert lease.control.agent == "child"
    assert why(CHILD, soon, busy=True) is None
    assert (why(TOP, soon, busy=True), why(TOP, later)) == (USED_SINCE, USED_SINCE)
    refusal = "Another agent is using this desktop. Nothing was pressed; wait 14 s, and look again."
    assert why(SIBLING, soon) == refusal
    assert str(why(GRANDCHILD, soon)).startswith("An agent above you is using this desktop.")
    assert why(SIBLING, later) == USED_SINCE
    assert why(SIBLING, later, busy=True) == refusal.replace("14", "15")

    taken = control.agent_takes(lease, TOP, busy=True, now=soon)
    assert (control.agent_has(taken, TOP), control.agent_has(taken, CHILD)) == (True, False)
    assert (taken.control.agent, taken.control.reason) == (None, "agent")


@given(steps)
def test_the_screen_is_hidden_only_while_a_person_wants_that(
    taken: list[tuple[str, UserId, Agent, int]],
) -> None:
    lease, now = Lease(), START
    for what, person, agent, seconds in taken:
        now += timedelta(seconds=seconds)
        lease = step(lease, what, person, agent, now)
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
