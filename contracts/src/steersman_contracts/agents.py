"""Agents: chats that another chat has spawned, and how a model is told about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from steersman_contracts.chats import AgentKind, ChatError, Outcome, Status
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import FilePart, JsonObject, JsonPart, ToolResultPart

DONE: Final[frozenset[Status]] = frozenset({Status.WAITING, Status.ERROR})
"""An agent in one of these has nothing more to do until somebody sends it a message. One that is
archived or gone is done as well."""

MAX_AGENTS_NAMED: Final = 100
"""Agents that one call may be about."""
MAX_REPORT: Final = 30_000
"""Characters of one report in a result; of several, they share what `_MAX_REPORTS` gives."""
_MAX_REPORTS: Final = 120_000
_MIN_REPORT: Final = 1_000


class AgentState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an agent is."""

    agent_id: ChatId
    status: Status | None = None
    """None: there is no such chat any more."""
    kind: AgentKind = "general"
    title: str = ""
    outcome: Outcome | None = None
    """How its last turn ended."""
    error: ChatError | None = None
    queue_size: int = 0
    archived: bool = False
    cost_micros: int = 0
    """What it and the agents below it have cost."""
    report: str = ""
    """What it said last; empty while it works."""
    screen: FilePart | None = None
    """What it saw last on its desktop, if the question is about it alone."""
    recordings: tuple[str, ...] = ()
    """Pages of this server on which its work on a desktop can be seen, the oldest first."""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.status is None or self.archived or self.status in DONE

    @property
    def word(self) -> str:
        """How it stands, in a word for models."""
        if self.status is None:
            return "gone"
        if self.archived:
            return "archived"
        match self.status:
            case Status.WAITING:
                return self.outcome or "idle"
            case Status.REQUIRES_ACTION:
                return "paused"  # for a person, or for agents of its own
            case Status.RUNNING | Status.INTERRUPTING | Status.ERROR:
                return self.status.value


def is_over(states: Sequence[AgentState], *, any_of: bool) -> bool:
    """Whether a wait for these agents has come to its end."""
    done = [state.is_done for state in states]
    return any(done) if any_of else all(done)


def wait_result(
    call_id: str, tool: str, states: Sequence[AgentState], *, timed_out: bool
) -> ToolResultPart:
    """What a wait answers; that its time is up is a result like any other."""
    each = min(MAX_REPORT, max(_MIN_REPORT, _MAX_REPORTS // max(1, len(states))))
    value: JsonObject = {"agents": [described(state, most=each) for state in states]}
    if timed_out:
        value["timed_out"] = True
    screens = [state.screen for state in states if state.screen is not None and state.is_done]
    return ToolResultPart(call_id, tool, (JsonPart(value), *screens))


def described(state: AgentState, *, most: int = MAX_REPORT) -> JsonObject:
    """An agent as a model is told about it.

    Args:
        state: How far it is.
        most: Characters of the report that are told.
    """
    told: dict[str, Any] = {"agent_id": state.agent_id, "status": state.word}
    if state.status is None:
        return told
    told |= {"title": state.title, "type": state.kind}
    if state.queue_size:
        told["queued_messages"] = state.queue_size
    if state.error is not None:
        told["error"] = state.error.message
    if state.report and state.is_done:
        told["report"] = shortened(state.report, most)
    if state.recordings and state.is_done:
        told["recordings"] = list(state.recordings)
    told["cost_micros"] = state.cost_micros
    return told


def shortened(text: str, most: int) -> str:
    """The beginning and the end of a text that is longer than `most` characters."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    left_out = len(text) - most
    note = f"\n[… {left_out} characters are left out; message the agent to ask for them …]\n"
    return text[:head] + note + text[len(text) - (most - head) :]
