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


_REST: Final = Next(Status.WAITING, Status.RUNNING)
"""The turn is over: the chat rests, or its next queued message starts a turn."""

_IDLE: Final = (Status.WAITING, Status.ERROR)
_OWNED: Final = (Status.RUNNING, Status.INTERRUPTING)

_ANYWHERE: Final = (
    Transition.UPDATE,
    Transition.DELETE,
    Transition.EDIT_QUEUED,
    Transition.DELETE_QUEUED,
    Transition.REORDER_QUEUE,
)
"""What changes nothing about the turn."""

CREATION: Final = Next(Status.WAITING, Status.RUNNING)
"""Where `create` leads, before which a chat has no status: without a message, and with a first one,
which starts a turn at once."""

TRANSITIONS: Final[Mapping[tuple[Status, Transition], Next]] = {
    **{(status, transition): _stay(status) for status in Status for transition in _ANYWHERE},
    # A message to a busy chat joins the queue; to an idle one it starts a turn.
    (Status.WAITING, Transition.SEND_MESSAGE): _to(Status.RUNNING),
    (Status.ERROR, Transition.SEND_MESSAGE): _to(Status.RUNNING),
    (Status.RUNNING, Transition.SEND_MESSAGE): _stay(Status.RUNNING),
    (Status.INTERRUPTING, Transition.SEND_MESSAGE): _stay(Status.INTERRUPTING),
    (Status.REQUIRES_ACTION, Transition.SEND_MESSAGE): _stay(Status.REQUIRES_ACTION),
    # Whatever ran is no longer wanted; its worker finds a stale fence.
    **{(status, Transition.EDIT_MESSAGE): _to(Status.RUNNING) for status in Status},
    # A running turn is interrupted, so that its partial step is saved before the next one starts.
    (Status.RUNNING, Transition.PROMOTE_QUEUED): _to(Status.INTERRUPTING),
    (Status.INTERRUPTING, Transition.PROMOTE_QUEUED): _stay(Status.INTERRUPTING),
    (Status.ERROR, Transition.PROMOTE_QUEUED): _to(Status.RUNNING),
    (Status.REQUIRES_ACTION, Transition.PROMOTE_QUEUED): _to(Status.RUNNING),
    (Status.WAITING, Transition.INTERRUPT): _stay(Status.WAITING),
    (Status.ERROR, Transition.INTERRUPT): _stay(Status.ERROR),
    (Status.RUNNING, Transition.INTERRUPT): _to(Status.INTERRUPTING),
    (Status.INTERRUPTING, Transition.INTERRUPT): _stay(Status.INTERRUPTING),
    (Status.REQUIRES_ACTION, Transition.INTERRUPT): _REST,
    (Status.REQUIRES_ACTION, Transition.SUBMIT_TOOL_RESULTS): _to(Status.RUNNING),
    # Once nothing else is pending; until then the chat goes on waiting.
    (Status.REQUIRES_ACTION, Transition.RESOLVE_APPROVAL): _to(Status.RUNNING),
    # Agents that a call waited for are done, or its time is up; as with an approval.
    (Status.REQUIRES_ACTION, Transition.RESOLVE_WAIT): _to(Status.RUNNING),
    **{(status, Transition.CLEAR_CONTEXT): _stay(status) for status in _IDLE},
    # A summary is a worker's task; a running turn writes it before its next step.
    **{(status, Transition.REQUEST_COMPACTION): _to(Status.RUNNING) for status in _IDLE},
    (Status.RUNNING, Transition.REQUEST_COMPACTION): _stay(Status.RUNNING),
    **{(status, Transition.UNDO_COMPACTION): _stay(status) for status in _IDLE},
    **{(status, Transition.ARCHIVE): _stay(status) for status in _IDLE},
    # The worker that owns the chat.
    **{(status, Transition.ACQUIRE): _stay(status) for status in _OWNED},
    **{(status, Transition.ABANDON): _stay(status) for status in _OWNED},
    (Status.RUNNING, Transition.BEGIN_ATTEMPT): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.RECORD_RETRY): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.COMMIT_STEP): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.BEGIN_COMPACTION): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.COMMIT_COMPACTION): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.FAIL_COMPACTION): _stay(Status.RUNNING),
    (Status.RUNNING, Transition.ENTER_REQUIRES_ACTION): _to(Status.REQUIRES_ACTION),
    # A limit of the turn was reached, and a person has raised it.
    (Status.REQUIRES_ACTION, Transition.RESUME): _to(Status.RUNNING),
    (Status.RUNNING, Transition.FINISH_TURN): _REST,
    (Status.RUNNING, Transition.FINISH_ERROR): _to(Status.ERROR),  # nothing is promoted after it
    (Status.INTERRUPTING, Transition.FINISH_INTERRUPTION): _REST,
    # The clock.
    (Status.REQUIRES_ACTION, Transition.CANCEL_REQUIRES_ACTION): _REST,
}

ARCHIVED: Final[Mapping[tuple[Status, Transition], Next]] = {
    (status, transition): _stay(status)
    for status in _IDLE
    for transition in (Transition.UNARCHIVE, Transition.DELETE)
}
"""What an archived chat still allows. Reading is no transition, nor is what goes with it: the mark
of what was read, and a fork, which leaves this chat as it is."""


def rows() -> list[tuple[bool, str, str, str, str]]:
    """All tables as rows of `state_machine`: archived, status, transition, next, with backlog.

    The status before `create` is empty.
    """
    create = (False, "", Transition.CREATE, CREATION)
    others = (
        (archived, status, transition, after)
        for archived, table in ((False, TRANSITIONS), (True, ARCHIVED))
        for (status, transition), after in table.items()
    )
    return [
        (archived, str(status), transition.value, after.status.value, after.with_backlog.value)
        for archived, status, transition, after in (create, *others)
    ]
