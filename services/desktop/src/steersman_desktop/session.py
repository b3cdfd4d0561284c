"""The desktop of one chat: its states, its control, its actions one at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog

from steersman_contracts.desktop import (
    Action,
    CursorPosition,
    Looking,
    Point,
    TakeScreenshot,
    Wait,
    Zoom,
    scaled,
)
from steersman_contracts.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    SteersmanError,
    TooManyRequests,
    Unavailable,
)
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc.desktop import (
    ActionReply,
    Desktop,
    DesktopControl,
    DesktopState,
    PerformAction,
    Picture,
)
from steersman_contracts.rpc.desktop_recordings import Recording
from steersman_desktop import control
from steersman_desktop.archive import Archive
from steersman_desktop.clipboard import MAX_TEXT
from steersman_desktop.control import Lease
from steersman_desktop.gestures import Done
from steersman_desktop.machine import Machine, Size
from steersman_desktop.measures import RESTARTS, SETTLE, count_action
from steersman_desktop.operating import Operator
from steersman_desktop.recorder import Recorder
from steersman_desktop.rfb import RfbClient
from steersman_desktop.settings import Settings
from steersman_desktop.views import Views
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

TRANSITIONS: Final[Mapping[tuple[DesktopState, str], DesktopState]] = {
    ("absent", "start"): "starting",
    ("failed", "start"): "starting",
    ("starting", "started"): "ready",
    ("starting", "fail"): "failed",
    ("ready", "lose"): "starting",  # a dead one is replaced
    ("starting", "stop"): "stopping",
    ("ready", "stop"): "stopping",
    ("failed", "stop"): "stopping",
    ("absent", "stop"): "stopping",
    ("stopping", "stopped"): "gone",
}
"""Everything that can happen to a desktop. One that is gone is never used again."""

RESTARTED: Final = "The desktop restarted; its windows are gone. Take a screenshot."
TAKEN: Final = "A person took control of the desktop; the action was not finished."
CANCELLED: Final = "The action was cancelled; keys and buttons that it held are up again."
STOPPED: Final = "The desktop was stopped."
_OUTCOMES: Final[Mapping[str, str]] = {
    TAKEN: "taken",
    CANCELLED: "cancelled",
    RESTARTED: "restarted",
    STOPPED: "stopped",
}
MAX_WAITING: Final = 16
"""Actions that may wait for the one that runs."""
KEPT: Final = 200
"""Replies that are kept for callers that ask again."""
RESIZE_S: Final = 10.0
_UNSTARTED_S: Final = 60.0
MAX_RESTARTS: Final = 3
RESTART_WINDOW_S: Final = 600.0


def event_id(chat_id: ChatId, control: DesktopControl) -> str:
    """The id of the event that tells of a change of control."""
    return f"desktop-{chat_id}-{control.revision}"


OnControl = Callable[[ChatId, DesktopControl, UserId | None], None]
"""Told a chat, the control of its desktop from now on, and who had it before."""
Open = Callable[[Size], Awaitable[Machine]]


class Session:
    """One desktop, from its start to its end."""

    def __init__(
        self,
        chat_id: ChatId,
        size: Size,
        settings: Settings,
        *,
        open_machine: Open,
        on_control: OnControl,
        owner: UserId | None,
    ) -> None:
        now = datetime.now(UTC)
        self.chat_id = chat_id
        self.owner = owner
        self._size = size
        self._settings = settings
        self._open = open_machine
        self._on_control = on_control
        self._state: DesktopState = "absent"
        self._reason = ""
        self._machine: Machine | None = None
        self._operator: Operator | None = None
        self._starting: asyncio.Task[None] | None = None
        self._tasks = TaskGroup("desktop")
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._acting: asyncio.Task[ActionReply] | None = None
        self._replies: OrderedDict[str, asyncio.Task[ActionReply]] = OrderedDict()
        self._stop_reasons: dict[asyncio.Task[ActionReply], str] = {}
        self._restarts: deque[float] = deque()
        self._generation = 0
        self._windows_lost = False
        # Later than every revision of a desktop that the chat had before.
        first = DesktopControl(revision=int(now.timestamp() * 1000))
        self._lease = Lease(first)
        self._absent_since: float | None = None
        self._used_at = asyncio.get_running_loop().time()
        self.views = Views(self, settings.max_viewers)
        self._recorder: Recorder | None = None
        self._beginning = asyncio.Lock()
        self.ended = asyncio.Event()
        """Set once nothing of it is left, and the chat may have another one."""

    # -- states ----------------------------------------------------------------------------------

    @property
    def state(self) -> DesktopState:
        """Where it is in `TRANSITIONS`."""
        return self._state

    def _go(self, event: str, reason: str = "") -> None:
        following = TRANSITIONS.get((self._state, event))
        if following is None:
            raise Conflict(f"{event!r} is not possible while the desktop is {self._state!r}")
        self._state, self._reason = following, reason
        log.info("desktop.state", chat_id=self.chat_id, state=following, reason=reason)

    def describe(self) -> Desktop:
        """It as others see it."""
        operator = self._operator
        native = (0, 0) if operator is None else operator.native
        declared = (0, 0) if operator is None else operator.declared
        return Desktop(
            self.chat_id,
            self._state,
            self._reason,
            *native,
            *declared,
            generation=self._generation,
            viewers=len(self.views),
            control=self._lease.control,
            recording=self.recording,
        )

    async def ready(self) -> Operator:
        """Have it ready; concurrent callers share one start.

        Raises:
            Unavailable: It does not start.
        """
        if self._state in {"stopping", "gone"}:
            raise Unavailable("the desktop is being stopped")
        if self._state in {"absent", "failed"}:
            self._go("start")
            self._starting = self._tasks.start(self._start(0.0))
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self._operator is None or self._state != "ready":
            raise Unavailable(self._reason or "the desktop did not start")
        return self._operator

    async def _start(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        started = asyncio.get_running_loop().time()
        try:
            machine = await self._open(self._size)
            operator = Operator(machine.rfb, machine.x)
            await operator.settle()  # the first picture is to show more than half a taskbar
        except SteersmanError as error:
            log.warning("desktop.not_started", error=str(error), **error.details)
            self._go("fail", str(error))
            self._starting = None
            return
        self._machine, self._operator = machine, operator
        self._generation += 1
        self._starting = None
        self._go("started")
        machine.rfb.on_lost = self._lost
        if self._recorder is not None:
            self._recorder.follow(machine)
        if machine.rfb.lost:
            self._lost()
        log.info("desktop.started", seconds=asyncio.get_running_loop().time() - started)

    def _lost(self) -> None:
        """The screen died under us: put a new one in its place."""
        if self._state != "ready":
            return
        machine, self._machine, self._operator = self._machine, None, None
        self._windows_lost = True
        self._go("lose", "the screen ended; a new one is being started")
        self._end_action(RESTARTED)
        self.views.close(4410, "the desktop restarted")
        now = asyncio.get_running_loop().time()
        while self._restarts and now - self._restarts[0] > RESTART_WINDOW_S:
            self._restarts.popleft()
        self._restarts.append(now)
        self._starting = self._tasks.start(self._replace(machine, len(self._restarts)))

    async def _replace(self, machine: Machine | None, count: int) -> None:
        if machine is not None:
            await machine.stop()
        if count > MAX_RESTARTS:
            self._starting = None
            RESTARTS.labels("given_up").inc()
            self._go("fail", f"it ended {count} times within {RESTART_WINDOW_S / 60:g} minutes")
            return
        RESTARTS.labels("replaced").inc()
        await self._start((0.0, 0.0, 1.0, 5.0)[count])

    @property
    def acting(self) -> bool:
        """Whether the agent is in the middle of an action."""
        return self._acting is not None

    @property
    def pressed_by_people(self) -> bool:
        """Whether a viewer holds a key or a button."""
        return self.views.any_holds

    @property
    def machine(self) -> Machine | None:
        """What it runs on; None unless it is ready."""
        return self._machine

    async def stop(self, reason: str) -> None:
        """End it and everything on it; when this returns it is gone."""
        if self._state in {"stopping", "gone"}:
            return
        self._go("stop", reason)
        self._change(control.end(self._lease, "stopped", now=datetime.now(UTC)))
        self._end_action(STOPPED)
        self.views.close(4410, "the desktop was stopped")
        await self._tasks.cancel()
        if self._recorder is not None:
            await self._recorder.end("the desktop ended")
        machine, self._machine, self._operator = self._machine, None, None
        if machine is not None:
            await machine.stop()
        self._go("stopped", reason)

    def is_idle(self, now: float) -> bool:
        """Whether nobody has used or watched it for too long."""
        in_use = self.views or self._waiting or self._lease.control.holder is not None
        if in_use or self._state == "starting":  # somebody waits for it
            self._used_at = now
        # Whoever has made it is about to start it; if they do not, it goes all the same.
        patience_s = _UNSTARTED_S if self._state == "absent" else 0.0
        return now - self._used_at > self._settings.idle_stop_s + patience_s

    # -- control ---------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """Who has the input."""
        return self._lease

    def take_control(self, person: UserId, *, private: bool) -> None:
        """A person takes the input; what the agent is doing ends."""
        self._change(control.take(self._lease, person, private=private, now=datetime.now(UTC)))
        self._absent_since = None
        self._end_action(TAKEN)

    def return_control(self, person: UserId) -> None:
        """The person gives it back."""
        self._change(control.give_back(self._lease, person, now=datetime.now(UTC)))

    def person_acted(self, person: UserId) -> None:
        """Input of the person who has control has passed."""
        self._lease = control.used(self._lease, person, now=datetime.now(UTC))

    def check_control(self, now: float) -> None:
        """Take control from a person who does nothing, or who is not there any more."""
        holder = self._lease.control.holder
        if holder is None:
            return
        wall = datetime.now(UTC)
        self._change(control.idle_out(self._lease, self._settings.control_idle_s, now=wall))
        if not self.views.had(holder) or self.views.has(holder):
            self._absent_since = None
            return
        self._absent_since = self._absent_since or now
        if now - self._absent_since > self._settings.control_absent_s:
            self._change(control.end(self._lease, "disconnected", now=wall))

    def _change(self, lease: Lease) -> None:
        before, self._lease = self._lease, lease
        if lease.control.revision != before.control.revision:
            # First, so that what a person holds is up before the agent presses anything.
            self.views.release_all_but(lease.control.holder)
            if self._recorder is not None:
                self._recorder.changed(lease.control, event_id(self.chat_id, lease.control))
            self._on_control(self.chat_id, lease.control, before.control.holder)

    # -- clipboard and size ----------------------------------------------------------------------

    async def clipboard(self) -> str:
        """What was last copied on the desktop."""
        await self.ready()
        return self._rfb().clipboard

    async def copy(self, person: UserId, text: str) -> None:
        """Put text into the clipboard.

        Raises:
            Forbidden: The person has no control.
            InvalidRequest: The text is too long.
        """
        await self.ready()
        if not control.person_may_act(self._lease, person):
            raise Forbidden("take control of the desktop first")
        size = len(text.encode())
        if size > MAX_TEXT:
            raise InvalidRequest(
                f"text has {size} bytes; the clipboard takes {MAX_TEXT}", field="text"
            )
        self._rfb().copy(text)
        self.person_acted(person)

    async def resize(self, size: Size) -> None:
        """Give the screen another size; windows stay, and models see it on the next screenshot.

        Raises:
            Unavailable: The server does not do that.
        """
        async with self._turn:
            await self.ready()
            rfb = self._rfb()
            rfb.ask_for_size(*size)
            try:
                async with asyncio.timeout(RESIZE_S):
                    while (rfb.width, rfb.height) != size:
                        await rfb.refresh()
            except TimeoutError as error:
                raise Unavailable("the screen does not take another size") from error
            self._size = size
            self._used_at = asyncio.get_running_loop().time()

    def _rfb(self) -> RfbClient:
        machine = self._machine
        if machine is None:
            raise Unavailable("the desktop is being replaced")
        return machine.rfb

    # -- recording -------------------------------------------------------------------------------

    async def record(self, archive: Archive) -> Recording:
        """Record from now on; a recording that runs goes on.

        Raises:
            Unavailable: There is no screen.
        """
        async with self._beginning:
            await self.ready()
            recorder = self._recorder
            if recorder is not None and not recorder.reason:
                return recorder.recording
            machine = self._machine
            if machine is None:
                raise Unavailable("the desktop is being replaced")
            settings = self._settings
            self._recorder = await Recorder.begin(
                archive,
                self.chat_id,
                (machine.rfb.width, machine.rfb.height),
                limits=(settings.max_recording_s, settings.max_recording_bytes),
                hidden=lambda: self._lease.control.private,
            )
            self._recorder.follow(machine)
            return self._recorder.recording

    async def end_recording(self, recording_id: str) -> None:
        """End this recording, if it runs."""
        recorder = self._recorder
        if recorder is not None and recorder.recording.id == recording_id:
            await recorder.end("stopped")

    @property
    def recording(self) -> str:
        """The recording that runs; empty if none does."""
        recorder = self._recorder
        return "" if recorder is None or recorder.reason else recorder.recording.id

    @property
    def recorded_frames(self) -> int:
        """Pictures of the newest recording."""
        return 0 if self._recorder is None else self._recorder.recording.frames

    def person_did(self, person: UserId, done: list[Done]) -> None:
        """A person has finished doing something in a live view."""
        if done and self._recorder is not None:
            self._recorder.gestures(done, person)

    def declared(self, point: Point) -> Point:
        """The declared pixel under a native one; as it is while there is no screen."""
        operator = self._operator
        return point if operator is None else scaled(point, operator.native, operator.declared)

    # -- actions ---------------------------------------------------------------------------------

    async def picture(self) -> Picture:
        """The screen, for a person."""
        self._used_at = asyncio.get_running_loop().time()
        return await (await self.ready()).look()

    async def perform(self, request: PerformAction) -> ActionReply:
        """Do an action once; the same key again gives the same reply, and presses nothing."""
        person = None if request.actor is None else request.actor.user_id
        key = f"{person or ''}/{request.key}"
        task = self._replies.get(key)
        if task is None:
            if self._waiting >= MAX_WAITING:
                count_action(request.action, by_person=person is not None, outcome="busy")
                raise TooManyRequests(
                    f"{MAX_WAITING} actions wait for the desktop already", limit=MAX_WAITING
                )
            task = self._replies[key] = self._tasks.start(self._perform(request, person))
            while len(self._replies) > KEPT:
                self._replies.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return ActionReply(STOPPED, is_error=True)

    def cancel(self, key: str) -> None:
        """End an action of the agent: a reply is no longer wanted."""
        task = self._replies.get(f"/{key}")
        if task is not None and not task.done():
            self._stop_reasons[task] = CANCELLED
            task.cancel()

    async def _perform(self, request: PerformAction, person: UserId | None) -> ActionReply:
        self._waiting += 1
        me = asyncio.current_task()
        try:
            async with self._turn:
                self._used_at = asyncio.get_running_loop().time()
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
            text = RESTARTED if self._windows_lost else str(error)
            return self._noted(request, ActionReply(text, is_error=True), "unavailable")
        finally:
            self._waiting -= 1
            if self._acting is me:
                self._acting = None

    def _noted(
        self, request: PerformAction, reply: ActionReply, error: str = "refused"
    ) -> ActionReply:
        person = None if request.actor is None else request.actor.user_id
        outcome = _OUTCOMES.get(reply.text, error) if reply.is_error else "done"
        count_action(request.action, by_person=person is not None, outcome=outcome)
        if self._recorder is not None:
            self._recorder.did(
                request.action,
                call_id=request.call_id,
                person=person,
                text=reply.text,
                is_error=reply.is_error,
            )
        return reply

    async def _act(self, request: PerformAction, person: UserId | None) -> ActionReply:
        action = request.action
        operator = await self.ready()
        if (why := self._refusal(action, person)) is not None:
            picture = None
            if why == control.USED_SINCE:
                picture = await operator.look()
                if (why := control.why_agent_may_not_act(self._lease)) != control.USED_SINCE:
                    return ActionReply(why or TAKEN, is_error=True)  # taken again meanwhile
                self._lease = control.looked(self._lease)
            return ActionReply(why, is_error=True, picture=picture)
        operator.prepare(action)
        outcome = await operator.perform(action, lambda: self._guard(action, person))
        if person is not None:
            self.person_acted(person)
        picture = outcome.picture
        if outcome.looks and (request.look or isinstance(action, TakeScreenshot)):
            if not isinstance(action, TakeScreenshot):
                with SETTLE.time():
                    await operator.settle()
            unlike = "" if isinstance(action, TakeScreenshot) else request.last_digest
            picture = await operator.look(unlike)
        if person is None and control.why_agent_may_not_look(self._lease) is not None:
            return ActionReply(TAKEN, is_error=True)  # it was taken while we looked
        if person is None and isinstance(action, TakeScreenshot):
            self._lease = control.looked(self._lease)
            self._windows_lost = False
        if picture is not None and not picture.data:
            text = f"{outcome.text} The screen looks as before."
            return ActionReply(text, picture=None, unchanged=True)
        return ActionReply(outcome.text, picture=picture)

    def _refusal(self, action: Action, person: UserId | None) -> str | None:
        looking = isinstance(action, Looking)
        if person is not None:
            if not looking and not control.person_may_act(self._lease, person):
                raise Forbidden("take control of the desktop first")
            return None
        if isinstance(action, TakeScreenshot | Zoom | Wait | CursorPosition):
            return control.why_agent_may_not_look(self._lease)
        if self._windows_lost:
            return RESTARTED
        return control.why_agent_may_not_act(self._lease)

    def _guard(self, action: Action, person: UserId | None) -> None:
        """Called before each press: control may have changed since the action began."""
        holder = self._lease.control.holder
        if holder != person:
            raise InvalidRequest(TAKEN if person is None else "You no longer control the desktop.")

    def _end_action(self, reason: str) -> None:
        task = self._acting
        if task is not None and not task.done():
            self._stop_reasons[task] = reason
            task.cancel()
