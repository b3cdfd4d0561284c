"""Write docs/state-machine.md from the table that the code runs on.

A test compares; run `.venv/bin/python docs/render_state_machine.py` after changing the table.
"""

from __future__ import annotations

from pathlib import Path

from steersman_contracts.chats import Status, Transition
from steersman_store.transitions import ARCHIVED, TRANSITIONS, Next

TARGET = Path(__file__).parent / "state-machine.md"

_HEAD = """\
# The state machine of a chat

Written by `docs/render_state_machine.py` from `steersman_store.transitions`, the table that runs.
A cell says where a transition leads; *empty → other* names the second status for the case
that a queued message is promoted by the same transition. An empty cell is refused with
`transition_refused`, which names the state and the transition.
"""

_MOVERS = """\

## What moves a chat on

| status | who or what |
|---|---|
| `waiting`, `error` | a person |
| `running`, `interrupting` | the chatloop with the lease; without one, the store's sweep calls it |
| `requires_action` | the client that has the tools, any person, agents that are done, \
or the deadline of the action |
"""


def _cell(after: Next | None) -> str:
    if after is None:
        return ""
    if after.status is after.with_backlog:
        return f"`{after.status}`"
    return f"`{after.status}` → `{after.with_backlog}`"


def _table(machine: dict[tuple[Status, Transition], Next], statuses: list[Status]) -> str:
    lines = [
        "| transition | " + " | ".join(f"`{status}`" for status in statuses) + " |",
        "|---" * (len(statuses) + 1) + "|",
    ]
    for transition in Transition:
        cells = [_cell(machine.get((status, transition))) for status in statuses]
        if any(cells):
            lines.append(f"| `{transition}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def render() -> str:
    """The whole page."""
    return (
        _HEAD
        + "\n## A chat that is in use\n\n"
        + _table(dict(TRANSITIONS), list(Status))
        + "\n## An archived chat\n\n"
        + _table(dict(ARCHIVED), [Status.WAITING, Status.ERROR])
        + _MOVERS
    )


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
