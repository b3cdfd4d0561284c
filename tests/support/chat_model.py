"""A chat in plain Python: what the store must have made of it, for tests that compare the two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from steersman_contracts.chats import Role, Status, Transition, Visibility
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import Parts, TextPart, ToolCallPart, ToolResultPart
from steersman_store.transitions import ARCHIVED, TRANSITIONS
from support.chat_driver import text
from support.invariants import open_calls

INTERRUPTED: Final = "interrupted before it produced a result"
EXPIRED: Final = "nobody answered this call in time"
CLEARED: Final = "The context was cleared."


class Entry(NamedTuple):
    """A message of the history."""

    role: Role
    parts: Parts
    visibility: Visibility = Visibility.BOTH
    boundary: str | None = None
    by_summary: bool = False
    """A summary put it there: it is taken back with the summary."""


@dataclass
class Pending:
    """A call that an action is about."""

    call: ToolCallPart
    result: ToolResultPart | None = None
    asked: bool = False
    """A person decides whether it runs; otherwise the client answers it."""
    approved: bool = False
    agent: ChatId | None = None
    """Answers it when it is done."""

    @property
    def open(self) -> bool:
        """Somebody has yet to answer or to decide."""
        return self.result is None and not self.approved

    def error(self, words: str) -> ToolResultPart:
        call = self.call
        return ToolResultPart(call.call_id, call.tool, (TextPart(words),), is_error=True)


@dataclass
class ChatModel:
    """What the chat must be."""

    status: Status
    history: list[Entry]
    queue: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    archived: bool = False
    runner: str | None = None
    leased: bool = False
    action: list[Pending] = field(default_factory=list[Pending])
    """Filled in `requires_action`, and afterwards while calls that were approved are to be run."""
    at_limit: bool = False
    """In `requires_action` without a call: a limit of the turn is reached."""
    wish: bool = False
    """Somebody has asked for a summary that nobody has written yet."""
    compacting: bool = False
    retrying: bool = False
    grants: set[str] = field(default_factory=set[str])
    """Tools that need no approval in this chat any more."""
    book: list[str] = field(default_factory=list[str])
    """What was decided."""

    def next(self, transition: Transition) -> Status | None:
        """Where a transition leads; None when it is refused."""
        table = ARCHIVED if self.archived else TRANSITIONS
        after = table.get((self.status, transition))
        return None if after is None else after.with_backlog if self.queue else after.status

    @property
    def idle(self) -> bool:
        return self.status in (Status.WAITING, Status.ERROR)

    # -- the history -------------------------------------------------------------------------------

    def open_calls(self) -> list[ToolCallPart]:
        return open_calls([(entry.role, entry.parts) for entry in self.history])

    @property
    def awaits_model(self) -> bool:
        """The history ends with something that the model has to answer."""
        seen = [entry for entry in self.history if entry.visibility is not Visibility.USER]
        return (
            bool(seen)
            and seen[-1].role in (Role.USER, Role.TOOL)
            and seen[-1].boundary != "summary-at-rest"
        )

    def last_boundary(self) -> int:
        """The position of the newest boundary; -1 without one."""
        found = [n for n, entry in enumerate(self.history) if entry.boundary is not None]
        return found[-1] if found else -1

    @property
    def summarisable(self) -> bool:
        """The model has said something since the newest boundary."""
        return any(
            entry.role is Role.ASSISTANT and entry.visibility is not Visibility.USER
            for entry in self.history[self.last_boundary() + 1 :]
        )

    @property
    def fresh_summary(self) -> int | None:
        """The position of the newest summary, as long as nothing has followed it."""
        at = self.last_boundary()
        if at < 0 or self.history[at].boundary == "clear":
            return None
        return at if all(entry.by_summary for entry in self.history[at + 1 :]) else None

    def say(self, words: str) -> None:
        self.history.append(Entry(Role.USER, text(words)))

    def promote(self) -> None:
        self.say(self.queue.pop(0)[1])

    # -- the turn ----------------------------------------------------------------------------------

    def run(self) -> None:
        """A turn begins, or goes on without its worker."""
        self.status = Status.RUNNING
        self.retrying = self.compacting = False

    def rest(self) -> None:
        """The turn is over: nobody owns the chat, unless the next turn has begun."""
        self._settle()
        if self.queue:
            self.promote()
            self.run()
        else:
            self.status = Status.WAITING
            self.release()

    def fail(self) -> None:
        """The turn is over, and nothing follows it by itself."""
        self._settle()
        self.status = Status.ERROR
        self.release()

    def _settle(self) -> None:
        self.action = []
        self.at_limit = False
        self.wish = self.compacting = self.retrying = False

    def release(self) -> None:
        self.runner, self.leased = None, False

    def replaced(self, position: int, words: str) -> None:
        """A person has said something else at this position: what came after it is gone."""
        del self.history[position:]
        self.say(words)
        self.queue.clear()
        self._settle()
        self.run()
        self.release()

    def take_back_summary(self) -> bool:
        """Whether there was a summary that could be taken back."""
        at = self.fresh_summary
        if at is None:
            return False
        del self.history[at:]
        return True

    # -- actions -----------------------------------------------------------------------------------

    def known_results(self) -> dict[str, ToolResultPart]:
        """Results that an action has left for whoever runs the calls that were approved."""
        return {one.call.call_id: one.result for one in self.action if one.result is not None}

    def require_action(self, action: list[Pending]) -> None:
        self.action = action
        self.at_limit = not action
        self.status = Status.REQUIRES_ACTION
        self.compacting = self.retrying = False
        self.release()

    def answered(self) -> None:
        """Something that the action waited for is there."""
        if any(one.open for one in self.action):
            return
        results = tuple(one.result for one in self.action if one.result is not None)
        if len(results) == len(self.action):
            self.history.append(Entry(Role.TOOL, results))
            self.action = []
        self.run()

    def resume(self) -> None:
        """A person has changed the limits: a turn that waits at one goes on."""
        if self.at_limit:
            self.at_limit = False
            self.run()

    def end_action(self, missing: str) -> None:
        """What is pending is answered with errors, and the turn is over."""
        results = tuple(one.result or one.error(missing) for one in self.action)
        if results:
            self.history.append(Entry(Role.TOOL, results))
        if not self.wish:
            self.rest()
            return
        self.action = []  # the summary is written before anything else begins
        self.at_limit = False
        self.run()
        self.release()
