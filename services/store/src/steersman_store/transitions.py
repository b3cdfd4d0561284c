"""The state machine as data: one table, read by the SQL functions, the documentation and the tests.

`migrate` writes it into the database table `state_machine`. What is not in it is refused with an
error that names the state and the transition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from steersman_contracts.chats import Status, Transition


class Next(NamedTuple):
    """Where a transition leads."""

    status: Status
    with_backlog: Status
    """The status when a queued message is promoted by the same transition."""


def _stay(status: Status) -> Next:
    return Next(status, status)


def _to(status: Status) -> Next:
    return Next(status, status)


_REST = Next(Status.WAITING, Status.RUNNING)

TRANSITIONS: Final[Mapping[tuple[Status, Transition], Next]] = {
    # People. A message to a busy chat joins the queue; to an idle one it starts a turn.
    (Status.WAITING, Transition.SEND_MESSAGE): _to(Status.RUNNING),
    (Status.ERROR, Transition.SEND_MESSAGE): _to(Status.RUNNING),
    (Status.RUNNING, Transition.SEND_MESSAGE): _stay(Status.RUNNING),
    (Status.INTERRUPTING, Transition.SEND_MESSAGE): _stay(Status.INTERRUPTING),
    (Status.WAITING, Transition.INTERRUPT): _stay(Status.WAITING),
    (Status.ERROR, Transition.INTERRUPT): _stay(Status.ERROR),
    (Status.RUNNING, Transition.INTERRUPT): _to(Status.INTERRUPTING),
    (Status.INTERRUPTING, Transition.INTERRUPT): _stay(Status.INTERRUPTING),
    (Status.WAITING, Transition.UPDATE): _stay(Status.WAITING),
    (Status.ERROR, Transition.UPDATE): _stay(Status.ERROR),
    (Status.RUNNING, Transition.UPDATE): _stay(Status.RUNNING),
    (Status.INTERRUPTING, Transition.UPDATE): _stay(Status.INTERRUPTING),
    # The worker that owns the chat.
    (Status.RUNNING, Transition.ACQUIRE): _stay(Status.RUNNING),
    (Status.INTERRUPTING, Transition.ACQUIRE): _stay(Status.INTERRUPTING),
    (Status.RUNNING, Transition.ABANDON): _stay(Status.RUNNING),
    (Status.INTERRUPTING, Transition.ABANDON): _stay(Status.INTERRUPTING),
    (Status.RUNNING, Transition.BEGIN_ATTEMPT): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.RECORD_RETRY): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.COMMIT_STEP): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.FINISH_TURN): _REST,
    (Status.RUNNING, Transition.FINISH_ERROR): _to(Status.ERROR),  # nothing is promoted after it
    (Status.INTERRUPTING, Transition.FINISH_INTERRUPTION): _REST,
}


def rows() -> list[tuple[str, str, str, str]]:
    """The table as rows of `state_machine`, in a fixed order."""
    return [
        (status.value, transition.value, after.status.value, after.with_backlog.value)
        for (status, transition), after in TRANSITIONS.items()
    ]
