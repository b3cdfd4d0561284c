"""Who holds the input of a desktop: one agent or one person, never two. Plain functions.

A desktop that a chat shares with agents below it has one agent at a time. Who is above takes it at
once from who is below; everybody else waits until it has not been used for a moment.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

import msgspec

from steersman_contracts.errors import Conflict, Forbidden
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc.desktop import DesktopControl

USED_SINCE: Final = (
    "Somebody else has used the desktop since. Nothing was pressed; this is the screen as it is "
    "now."
)
"""Said together with the screen, which the agent has seen then."""


AGENT_S: Final = 15.0
"""An agent that has not used a shared desktop for so long leaves it to the others; by default."""


class Agent(msgspec.Struct, frozen=True):
    """An agent that uses a desktop."""

    chat_id: ChatId
    above: tuple[ChatId, ...] = ()
    """The chats above it up to the one whose desktop it is; empty: it is its own."""


class Lease(msgspec.Struct, frozen=True):
    """The control of one desktop, and what follows from its past."""

    control: DesktopControl = DesktopControl()
    used_at: datetime | None = None
    """When the person did something last."""
    agent: Agent | None = None
    """Which of the agents used it last."""
    agent_used_at: datetime | None = None
    seen_by: frozenset[ChatId] | None = None
    """The agents that know the screen as it is: they have looked since somebody else used it. None:
    nobody has used it yet, so nobody knows anything wrong."""


def take(lease: Lease, person: UserId, *, private: bool, now: datetime) -> Lease:
    """Give the input to a person. One who has it already may change `private`.

    Raises:
        Conflict: Another person holds it.
    """
    holder = lease.control.holder
    if holder is not None and holder != person:
        raise Conflict("another person controls the desktop", holder=holder)
    if holder == person and lease.control.private == private:
        return msgspec.structs.replace(lease, used_at=now)
    since = lease.control.since if holder == person else now
    control = _next(lease, holder=person, private=private, since=since, reason="taken")
    return msgspec.structs.replace(lease, control=control, used_at=now, seen_by=frozenset())


def give_back(lease: Lease, person: UserId, *, now: datetime) -> Lease:
    """Give the input back to the agent; nothing happens when it has it.

    Raises:
        Forbidden: Another person holds it.
    """
    holder = lease.control.holder
    if holder is None:
        return lease
    if holder != person:
        raise Forbidden("another person controls the desktop")
    return end(lease, "given_back", now=now)


def end(lease: Lease, reason: str, *, now: datetime) -> Lease:
    """Take the input from whoever person holds it."""
    if lease.control.holder is None:
        return lease
    control = _next(lease, holder=None, private=False, since=now, reason=reason)
    return msgspec.structs.replace(lease, control=control, used_at=None, seen_by=frozenset())


def used(lease: Lease, person: UserId, *, now: datetime) -> Lease:
    """The person has done something."""
    if lease.control.holder != person:
        return lease
    return msgspec.structs.replace(lease, used_at=now)


def idle_out(lease: Lease, limit_s: float, *, now: datetime) -> Lease:
    """End the control of a person who has done nothing for longer than the limit."""
    if lease.used_at is None or now - lease.used_at < timedelta(seconds=limit_s):
        return lease
    return end(lease, "timeout", now=now)


def looked(lease: Lease, agent: Agent) -> Lease:
    """The agent has seen the screen as it is now."""
    if lease.control.holder is not None or lease.seen_by is None:
        return lease
    return msgspec.structs.replace(lease, seen_by=lease.seen_by | {agent.chat_id})


def agent_takes(
    lease: Lease, agent: Agent, *, busy: bool, now: datetime, idle_s: float = AGENT_S
) -> Lease:
    """Let an agent have the side of the agents, if it may, so that no other agent presses.

    Args:
        lease: As it is.
        agent: Who wants to do something.
        busy: Whether the agent that has it is in the middle of an action.
        now: The time.
        idle_s: Seconds after which an agent that does nothing leaves the desktop to others.
    """
    if _why_not(lease, agent, busy=busy, now=now, idle_s=idle_s) is not None:
        return lease
    control = lease.control
    shown = agent.chat_id if agent.above else None
    if control.agent != shown:
        control = msgspec.structs.replace(
            control, revision=control.revision + 1, agent=shown, since=now, reason="agent"
        )
    seen = lease.seen_by
    if lease.agent is not None and lease.agent.chat_id != agent.chat_id and (busy or seen is None):
        seen = frozenset[ChatId]()  # what the other is in the middle of, nobody has seen
    return msgspec.structs.replace(
        lease, control=control, agent=agent, agent_used_at=now, seen_by=seen
    )


def agent_used(lease: Lease, agent: Agent, *, now: datetime) -> Lease:
    """The agent that has the input has done something: it knows what it did, and nobody else."""
    if lease.agent is None or lease.agent.chat_id != agent.chat_id:
        return lease
    seen = frozenset({agent.chat_id})
    return msgspec.structs.replace(lease, agent_used_at=now, seen_by=seen)


def person_may_act(lease: Lease, person: UserId) -> bool:
    """Whether input of this person reaches the desktop."""
    return lease.control.holder == person


def agent_has(lease: Lease, agent: Agent) -> bool:
    """Whether what this agent presses reaches the desktop at this moment."""
    last = lease.agent
    return lease.control.holder is None and last is not None and last.chat_id == agent.chat_id


def why_agent_may_not_act(
    lease: Lease,
    agent: Agent,
    *,
    busy: bool = False,
    now: datetime,
    idle_s: float = AGENT_S,
) -> str | None:
    """What to tell the agent instead of doing what it wants."""
    why = _why_not(lease, agent, busy=busy, now=now, idle_s=idle_s)
    if why is None and lease.seen_by is not None and agent.chat_id not in lease.seen_by:
        return USED_SINCE
    return why


def why_agent_may_not_look(lease: Lease) -> str | None:
    """What to tell the agent instead of showing it the screen."""
    if lease.control.holder is not None and lease.control.private:
        return "A person is controlling the desktop in private. The screen is not shown until then."
    return None


def _why_not(lease: Lease, agent: Agent, *, busy: bool, now: datetime, idle_s: float) -> str | None:
    if lease.control.holder is not None:
        return "A person is controlling the desktop. Nothing was pressed; wait, and look again."
    last = lease.agent
    if last is None or last.chat_id == agent.chat_id or agent.chat_id in last.above:
        return None
    used_at = lease.agent_used_at
    since_s = idle_s if used_at is None else (now - used_at).total_seconds()
    left_s = idle_s if busy else idle_s - since_s
    if left_s <= 0:
        return None
    who = "An agent above you" if last.chat_id in agent.above else "Another agent"
    return (
        f"{who} is using this desktop. Nothing was pressed; wait {math.ceil(left_s)} s, and look "
        "again."
    )


def _next(
    lease: Lease, *, holder: UserId | None, private: bool, since: datetime | None, reason: str
) -> DesktopControl:
    before = lease.control
    return DesktopControl(before.revision + 1, holder, private, since, reason, before.agent)
