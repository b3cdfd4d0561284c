"""Who has the input of one desktop, as time goes by. What follows from what is in `control.py`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from steersman_contracts.errors import Forbidden
from steersman_contracts.ids import UserId
from steersman_contracts.rpc.desktop import DesktopControl
from steersman_desktop import control
from steersman_desktop.control import Agent, Lease

Changed = Callable[[DesktopControl, DesktopControl], None]
"""Told the control of before, and that of now."""


class Audience(Protocol):
    """Who watches."""

    def has(self, user: UserId) -> bool:
        """Whether this person watches, with the right to control."""
        ...

    def had(self, user: UserId) -> bool:
        """Whether this person has ever watched."""
        ...


class Holding:
    """The lease of one desktop, with a clock."""

    def __init__(
        self, on_change: Changed, *, idle_s: float, absent_s: float, agent_idle_s: float
    ) -> None:
        """Begin, with nobody.

        Args:
            on_change: Called at each change of control.
            idle_s: A person who does nothing for so long loses control.
            absent_s: And one whose last view is gone for so long.
            agent_idle_s: An agent that does nothing for so long leaves the desktop to others.
        """
        # Later than every revision of a desktop that the chat had before.
        self.lease = Lease(DesktopControl(revision=int(_now().timestamp() * 1000)))
        self._on_change = on_change
        self._idle_s = idle_s
        self._absent_s = absent_s
        self._agent_idle_s = agent_idle_s
        self._absent_since: float | None = None

    @property
    def person(self) -> UserId | None:
        """Who holds it; None: the agents."""
        return self.lease.control.holder

    @property
    def private(self) -> bool:
        """Whether that person wants the screen not to be seen."""
        return self.lease.control.private

    def take(self, person: UserId, *, private: bool) -> None:
        """A person takes the input."""
        self._change(control.take(self.lease, person, private=private, now=_now()))
        self._absent_since = None

    def give_back(self, person: UserId) -> None:
        """The person gives it back."""
        self._change(control.give_back(self.lease, person, now=_now()))

    def end(self, reason: str) -> None:
        """Nobody has it any more."""
        self._change(control.end(self.lease, reason, now=_now()))

    def used(self, person: UserId) -> None:
        """Input of the person who has control has passed."""
        self.lease = control.used(self.lease, person, now=_now())

    def demand(self, person: UserId) -> None:
        """Refuse input of who has no control.

        Raises:
            Forbidden: This person has none.
        """
        if not control.person_may_act(self.lease, person):
            raise Forbidden("take control of the desktop first")

    def check(self, audience: Audience, now: float) -> None:
        """Take control from a person who does nothing, or who is not there any more."""
        holder = self.person
        if holder is None:
            return
        self._change(control.idle_out(self.lease, self._idle_s, now=_now()))
        if not audience.had(holder) or audience.has(holder):
            self._absent_since = None
            return
        self._absent_since = self._absent_since or now
        if now - self._absent_since > self._absent_s:
            self.end("disconnected")

    def agent_takes(self, agent: Agent, *, busy: bool) -> str | None:
        """Let an agent have the agents' side, if it may; say what it is told instead of acting."""
        idle_s, now = self._agent_idle_s, _now()
        self._change(control.agent_takes(self.lease, agent, busy=busy, now=now, idle_s=idle_s))
        return control.why_agent_may_not_act(self.lease, agent, busy=busy, now=now, idle_s=idle_s)

    def agent_used(self, agent: Agent) -> None:
        """The agent has pressed something."""
        self.lease = control.agent_used(self.lease, agent, now=_now())

    def looked(self, agent: Agent) -> None:
        """The agent has seen the screen."""
        self.lease = control.looked(self.lease, agent)

    def _change(self, lease: Lease) -> None:
        before, self.lease = self.lease, lease
        if lease.control.revision != before.control.revision:
            self._on_change(before.control, lease.control)


def _now() -> datetime:
    return datetime.now(UTC)
