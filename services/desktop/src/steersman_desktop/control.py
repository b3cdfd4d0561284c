"""Who holds the input of a desktop: the agent or one person, never both. Plain functions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from steersman_contracts.errors import Conflict, Forbidden
from steersman_contracts.ids import UserId
from steersman_contracts.rpc.desktop import DesktopControl

USED_SINCE: Final = (
    "A person has used the desktop since. Nothing was pressed; this is the screen as it is now."
)
"""Said together with the screen, which the agent has seen then."""


class Lease(msgspec.Struct, frozen=True):
    """The control of one desktop, and what follows from its past."""

    control: DesktopControl = DesktopControl()
    used_at: datetime | None = None
    """When the person did something last."""
    agent_must_look: bool = False
    """A person has changed what the agent knew: it gets no input before it has seen the screen."""


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
    control = DesktopControl(lease.control.revision + 1, person, private, since, "taken")
    return Lease(control, now, agent_must_look=True)


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
    control = DesktopControl(lease.control.revision + 1, None, False, now, reason)  # noqa: FBT003, RUF100
    return Lease(control, None, agent_must_look=True)


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


def looked(lease: Lease) -> Lease:
    """The agent has seen the screen as it is now."""
    if lease.control.holder is not None or not lease.agent_must_look:
        return lease
    return msgspec.structs.replace(lease, agent_must_look=False)


def person_may_act(lease: Lease, person: UserId) -> bool:
    """Whether input of this person reaches the desktop."""
    return lease.control.holder == person


def why_agent_may_not_act(lease: Lease) -> str | None:
    """What to tell the agent instead of doing what it wants."""
    if lease.control.holder is not None:
        return "A person is controlling the desktop. Nothing was pressed; wait, and look again."
    return USED_SINCE if lease.agent_must_look else None


def why_agent_may_not_look(lease: Lease) -> str | None:
    """What to tell the agent instead of showing it the screen."""
    if lease.control.holder is not None and lease.control.private:
        return "A person is controlling the desktop in private. The screen is not shown until then."
    return None
