"""Write docs/state-machine.md from the table that the code runs on.

A test compares; run `.venv/bin/python docs/render_state_machine.py` after changing the table.
"""

from __future__ import annotations

from pathlib import Path

from steersman_contracts.chats import Status, Transition
from steersman_store.transitions import ARCHIVED, CREATION, TRANSITIONS, Next

TARGET = Path(__file__).parent / "state-machine.md"

_HEAD = """\
# The state machine of a chat

Written by `docs/render_state_machine.py` from `steersman_store.transitions`, the table that runs.
A cell says where a transition leads; *empty → other* names the second status for the case
that a queued message is promoted by the same transition. An empty cell is refused with
`transition_refused`, which names the state and the transition.
"""

_NEW = """\

## A chat that is made

| transition | without a message | with a first message |
|---|---|---|
"""

_PUT_AWAY = """
Reading is no transition: nor are the mark of what was read, taking away a pin that is gone already,
and a fork, which is another chat. `archive` of an archived chat and `unarchive` of one that is in
use change nothing. Whatever else changes the chat is refused as an `update` is: title, model,
prompt, labels, pins, limits, plans, rules, workspace, and the desktop, which can only be looked at
and stopped. Files, recordings and workspaces themselves belong to the person, who may delete them.
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
        + _NEW
        + f"| `{Transition.CREATE}` | `{CREATION.status}` | `{CREATION.with_backlog}` |\n"
        + "\n## A chat that is in use\n\n"
        + _table(dict(TRANSITIONS), list(Status))
        + "\n## An archived chat\n\n"
        + _table(dict(ARCHIVED), [Status.WAITING, Status.ERROR])
        + _PUT_AWAY
        + _MOVERS
    )


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
