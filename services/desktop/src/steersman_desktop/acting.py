"""The actions on one desktop: one at a time, each once, and none by who may not."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from steersman_contracts.desktop import (
    Action,
    CursorPosition,
    Looking,
    TakeScreenshot,
    Wait,
    Zoom,
)
from steersman_contracts.errors import Forbidden, InvalidRequest, TooManyRequests, Unavailable
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc.desktop import ActionReply, PerformAction, Picture
from steersman_desktop import control
from steersman_desktop.control import Agent
from steersman_desktop.display import Display
from steersman_desktop.holding import Holding
from steersman_desktop.measures import SETTLE, count_action
from steersman_desktop.operating import Operator, Outcome
from steersman_desktop.tape import Tape
from steersman_runtime.tasks import TaskGroup

RESTARTED: Final = "The desktop restarted; its windows are gone. Take a screenshot."
TAKEN: Final = "A person took control of the desktop; the action was not finished."
OVERRULED: Final = "Another agent took over the desktop; the action was not finished."
CANCELLED: Final = "The action was cancelled; keys and buttons that it held are up again."
STOPPED: Final = "The desktop was stopped."
_OUTCOMES: Final[Mapping[str, str]] = {
    TAKEN: "taken",
    OVERRULED: "taken",
    CANCELLED: "cancelled",
    RESTARTED: "restarted",
    STOPPED: "stopped",
}
MAX_WAITING: Final = 16
"""Actions that may wait for the one that runs."""
KEPT: Final = 200
"""Replies that are kept for callers that ask again."""


class Acting:
    """Who acts on a desktop, and what came of it."""

    def __init__(
        self,
        chat_id: ChatId,
        display: Display,
        holding: Holding,
        tape: Tape,
        *,
        on_use: Callable[[], None],
    ) -> None:
        """Begin.

        Args:
            chat_id: Whose desktop it is.
            display: The screen.
            holding: Who has the input.
            tape: Where actions are noted.
            on_use: Called at each action.
        """
        self._chat_id = chat_id
        self._display = display
        self._holding = holding
        self._tape = tape
        self._on_use = on_use
        self._tasks = TaskGroup("acting")
        self._acting: asyncio.Task[ActionReply] | None = None
        self._resting: set[asyncio.Task[ActionReply]] = set()
        """Of agents that let time pass, which nobody else has to wait for."""
        self._replies: OrderedDict[str, asyncio.Task[ActionReply]] = OrderedDict()
        self._stop_reasons: dict[asyncio.Task[ActionReply], str] = {}
        self.turn = asyncio.Lock()
        """Held while something is done that nothing else may happen to."""
        self.waiting = 0
        """Actions that run or wait to."""
        self.windows_lost = False
        """The screen was replaced, and the agents do not know it yet."""

    @property
    def busy(self) -> bool:
        """Whether an agent is in the middle of an action."""
        return self._acting is not None or bool(self._resting)

    async def close(self) -> None:
        """End all actions."""
        await self._tasks.cancel()

    async def perform(self, request: PerformAction) -> ActionReply:
        """Do an action once; the same key again gives the same reply, and presses nothing."""
        person = None if request.actor is None else request.actor.user_id
        key = _key(request.agent, person, request.key)
        task = self._replies.get(key)
        if task is None:
            if self.waiting >= MAX_WAITING:
                count_action(request.action, by_person=person is not None, outcome="busy")
                raise TooManyRequests(
                    f"{MAX_WAITING} actions wait for the desktop already", limit=MAX_WAITING
                )
            why = self._overrule(request)
            task = self._replies[key] = self._tasks.start(self._perform(request, person, why))
            while len(self._replies) > KEPT:
                self._replies.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return ActionReply(STOPPED, is_error=True)

    def cancel(self, agent: ChatId | None, key: str) -> None:
        """End an action of an agent: a reply is no longer wanted."""
        task = self._replies.get(_key(agent, None, key))
        if task is not None and not task.done():
            self._stop_reasons[task] = CANCELLED
            task.cancel()

    def end(self, reason: str) -> None:
        """End what an agent is doing."""
        for task in {self._acting, *self._resting}:
            if task is not None and not task.done():
                self._stop_reasons[task] = reason
                task.cancel()

    def _overrule(self, request: PerformAction) -> str | None:
        """Before it waits for its turn: an agent ends what one below it does, or hears why not."""
        if request.actor is not None or isinstance(request.action, Looking):
            return None
        before = self._holding.lease.agent
        why = self._holding.agent_takes(self._agent(request), busy=self.busy)
        now = self._holding.lease.agent
        if before is not None and now is not None and now.chat_id != before.chat_id:
            self.end(OVERRULED)
        return None if why == control.USED_SINCE else why

    def _agent(self, request: PerformAction) -> Agent:
        return Agent(request.agent or self._chat_id, request.above)

    async def _perform(
        self, request: PerformAction, person: UserId | None, why: str | None
    ) -> ActionReply:
        if why is not None:
            return self._noted(request, ActionReply(why, is_error=True))
        self.waiting += 1
        me = asyncio.current_task()
        try:
            if isinstance(request.action, Wait):
                await self._rest(request.action, self._agent(request), person)
            async with self.turn:
                self._on_use()
                if person is None:
                    self._acting = me
                return self._noted(request, await self._act(request, person))
        except asyncio.CancelledError:
            reason = self._stop_reasons.pop(me, "") if me is not None else ""
            if not reason:
                raise
            return self._noted(request, ActionReply(reason, is_error=True))
        except InvalidRequest as error:
            return self._noted(request, ActionReply(str(error), is_error=True))
        except Forbidden:
            count_action(request.action, by_person=person is not None, outcome="refused")
            raise
        except Unavailable as error:
            text = RESTARTED if self.windows_lost else str(error)
            return self._noted(request, ActionReply(text, is_error=True), "unavailable")
        finally:
            self.waiting -= 1
            if self._acting is me:
                self._acting = None

    def _noted(
        self, request: PerformAction, reply: ActionReply, error: str = "refused"
    ) -> ActionReply:
        person = None if request.actor is None else request.actor.user_id
        outcome = _OUTCOMES.get(reply.text, error) if reply.is_error else "done"
        count_action(request.action, by_person=person is not None, outcome=outcome)
        if self._tape.recorder is not None:
            self._tape.recorder.did(
                request.action,
                call_id=request.call_id,
                person=person,
                text=reply.text,
                is_error=reply.is_error,
            )
        return reply

    async def _act(self, request: PerformAction, person: UserId | None) -> ActionReply:
        action, agent = request.action, self._agent(request)
        operator = await self._display.ready()
        if (why := self._refusal(action, agent, person)) is not None:
            return await self._refused(operator, agent, why)
        operator.prepare(action)
        try:
            outcome = await operator.perform(action, lambda: self._guard(agent, person))
        finally:
            self._has_acted(action, agent, person)
        picture = await self._look(operator, request, outcome)
        if person is None and control.why_agent_may_not_look(self._holding.lease) is not None:
            return ActionReply(TAKEN, is_error=True)  # it was taken while we looked
        if person is None and isinstance(action, TakeScreenshot):
            self._holding.looked(agent)
            self.windows_lost = False
        if picture is not None and not picture.data:
            text = f"{outcome.text} The screen looks as before."
            return ActionReply(text, picture=None, unchanged=True)
        return ActionReply(outcome.text, picture=picture)

    async def _rest(self, action: Wait, agent: Agent, person: UserId | None) -> None:
        """Let the time pass, outside of any turn: a person does not wait for an agent's pause."""
        operator = await self._display.ready()
        if self._refusal(action, agent, person) is not None:
            return  # which is said in its turn
        operator.prepare(action)
        me = asyncio.current_task()
        if person is None and me is not None:
            self._resting.add(me)
        try:
            await asyncio.sleep(action.duration_s)
        finally:
            self._resting.discard(me)

    async def _refused(self, operator: Operator, agent: Agent, why: str) -> ActionReply:
        """Tell an agent why not; one that only has to look is shown the screen at once."""
        if why != control.USED_SINCE:
            return ActionReply(why, is_error=True)
        picture = await operator.look()
        why = self._holding.agent_takes(agent, busy=False) or TAKEN
        if why != control.USED_SINCE:
            return ActionReply(why, is_error=True)  # taken again meanwhile
        self._holding.looked(agent)
        return ActionReply(why, is_error=True, picture=picture)

    async def _look(
        self, operator: Operator, request: PerformAction, outcome: Outcome
    ) -> Picture | None:
        asked = isinstance(request.action, TakeScreenshot)
        if not outcome.looks or not (request.look or asked):
            return outcome.picture
        if not asked:
            with SETTLE.time():
                await operator.settle()
        return await operator.look("" if asked else request.last_digest)

    def _has_acted(self, action: Action, agent: Agent, person: UserId | None) -> None:
        if person is not None:
            self._holding.used(person)
        elif not isinstance(action, Looking) and control.agent_has(self._holding.lease, agent):
            self._holding.agent_used(agent)

    def _refusal(self, action: Action, agent: Agent, person: UserId | None) -> str | None:
        if person is not None:
            if not isinstance(action, Looking):
                self._holding.demand(person)
            return None
        if isinstance(action, TakeScreenshot | Zoom | Wait | CursorPosition):
            return control.why_agent_may_not_look(self._holding.lease)
        if self.windows_lost:
            return RESTARTED
        return self._holding.agent_takes(agent, busy=False)

    def _guard(self, agent: Agent, person: UserId | None) -> None:
        """Called before each press: control may have changed since the action began."""
        lease = self._holding.lease
        if person is not None:
            if lease.control.holder != person:
                raise InvalidRequest("You no longer control the desktop.")
        elif lease.control.holder is not None:
            raise InvalidRequest(TAKEN)
        elif not control.agent_has(lease, agent):
            raise InvalidRequest(OVERRULED)


def _key(agent: ChatId | None, person: UserId | None, key: str) -> str:
    """Each agent and each person has keys of its own."""
    return f"{agent or ''}/{person or ''}/{key}"
