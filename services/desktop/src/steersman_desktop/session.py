"""The desktop of one chat: its screen, its control, what is done and recorded, until its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from steersman_contracts.desktop import Point, scaled
from steersman_contracts.errors import InvalidRequest, Unavailable
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
from steersman_desktop.acting import RESTARTED, STOPPED, TAKEN, Acting
from steersman_desktop.archive import Archive
from steersman_desktop.clipboard import MAX_TEXT
from steersman_desktop.control import Lease
from steersman_desktop.display import Display, Open
from steersman_desktop.gestures import Done
from steersman_desktop.holding import Holding
from steersman_desktop.machine import LocalMachine, Machine, Size
from steersman_desktop.operating import Operator
from steersman_desktop.settings import Settings
from steersman_desktop.tape import Tape
from steersman_desktop.views import Views

_UNSTARTED_S = 60.0


def event_id(chat_id: ChatId, control: DesktopControl) -> str:
    """The id of the event that tells of a change of control."""
    return f"desktop-{chat_id}-{control.revision}"


OnControl = Callable[[ChatId, DesktopControl, UserId | None], None]
"""Told a chat, the control of its desktop from now on, and who had it before."""


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
    ) -> None:
        self.chat_id = chat_id
        self._settings = settings
        self._on_control = on_control
        self._used_at = asyncio.get_running_loop().time()
        self.views = Views(self, settings.max_viewers)
        self._holding = Holding(
            self._control_changed,
            idle_s=settings.control_idle_s,
            absent_s=settings.control_absent_s,
            agent_idle_s=settings.agent_idle_s,
        )
        self._tape = Tape(
            chat_id,
            (settings.max_recording_s, settings.max_recording_bytes),
            hidden=lambda: self._holding.private,
        )
        self._display = Display(
            chat_id, size, open_machine=open_machine, on_up=self._up, on_lost=self._lost
        )
        self._acting = Acting(chat_id, self._display, self._holding, self._tape, on_use=self._touch)
        self.ended = asyncio.Event()
        """Set once nothing of it is left, and the chat may have another one."""

    # -- states ----------------------------------------------------------------------------------

    @property
    def state(self) -> DesktopState:
        """Where it is in `display.TRANSITIONS`."""
        return self._display.state

    def describe(self) -> Desktop:
        """It as others see it."""
        display = self._display
        operator = display.operator
        native = (0, 0) if operator is None else operator.native
        declared = (0, 0) if operator is None else operator.declared
        return Desktop(
            self.chat_id,
            display.state,
            display.reason,
            *native,
            *declared,
            generation=display.generation,
            viewers=len(self.views),
            control=self.lease.control,
            recording=self.recording,
        )

    async def ready(self) -> Operator:
        """Have it ready; concurrent callers share one start.

        Raises:
            Unavailable: It does not start.
        """
        return await self._display.ready()

    @property
    def acting(self) -> bool:
        """Whether an agent is in the middle of an action."""
        return self._acting.busy

    @property
    def pressed_by_people(self) -> bool:
        """Whether a viewer holds a key or a button."""
        return self.views.any_holds

    @property
    def machine(self) -> Machine | None:
        """What it runs on; None unless it is ready."""
        return self._display.machine

    async def stop(self, reason: str) -> None:
        """End it and everything on it; when this returns it is gone."""
        if self._display.ending:
            return
        self._display.go("stop", reason)
        self._holding.end("stopped")
        self._acting.end(STOPPED)
        self.views.close(4410, "the desktop was stopped")
        await self._acting.close()
        try:
            await self._tape.end("the desktop ended")  # while there is a last picture to be had
        finally:
            await self._display.stop()
        self._display.go("stopped", reason)

    def is_idle(self, now: float) -> bool:
        """Whether nobody has used or watched it for too long."""
        in_use = self.views or self._acting.waiting or self._holding.person is not None
        if in_use or self.state == "starting":  # somebody waits for it
            self._used_at = now
        # Whoever has made it is about to start it; if they do not, it goes all the same.
        patience_s = _UNSTARTED_S if self.state == "absent" else 0.0
        return now - self._used_at > self._settings.idle_stop_s + patience_s

    def _touch(self) -> None:
        self._used_at = asyncio.get_running_loop().time()

    def _up(self, machine: Machine) -> None:
        if self._tape.recorder is not None:
            self._tape.recorder.follow(machine)

    def _lost(self) -> None:
        self._acting.windows_lost = True
        self._acting.end(RESTARTED)
        self.views.close(4410, "the desktop restarted")

    # -- control ---------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """Who has the input."""
        return self._holding.lease

    def take_control(self, person: UserId, *, private: bool) -> None:
        """A person takes the input; what an agent is doing ends."""
        self._holding.take(person, private=private)
        self._acting.end(TAKEN)

    def return_control(self, person: UserId) -> None:
        """The person gives it back."""
        self._holding.give_back(person)

    def person_acted(self, person: UserId) -> None:
        """Input of the person who has control has passed."""
        self._holding.used(person)

    def check_control(self, now: float) -> None:
        """Take control from a person who does nothing, or who is not there any more."""
        self._holding.check(self.views, now)

    def _control_changed(self, before: DesktopControl, control: DesktopControl) -> None:
        # First, so that what one holds is up before another presses anything.
        self.views.release_all_but(control.holder)
        if self._display.operator is not None:
            self._display.operator.hands.release()
        if self._tape.recorder is not None:
            self._tape.recorder.changed(control, event_id(self.chat_id, control))
        self._on_control(self.chat_id, control, before.holder)

    # -- clipboard and size ----------------------------------------------------------------------

    async def clipboard(self) -> str:
        """What was last copied on the desktop."""
        await self.ready()
        return self._display.rfb().clipboard

    async def copy(self, person: UserId, text: str) -> None:
        """Put text into the clipboard.

        Raises:
            Forbidden: The person has no control.
            InvalidRequest: The text is too long.
        """
        await self.ready()
        self._holding.demand(person)
        size = len(text.encode())
        if size > MAX_TEXT:
            raise InvalidRequest(
                f"text has {size} bytes; the clipboard takes {MAX_TEXT}", field="text"
            )
        self._display.rfb().copy(text)
        self.person_acted(person)

    async def resize(self, person: UserId, size: Size) -> None:
        """Give the screen another size; windows stay.

        It is input as every other: it moves what an agent aims at. The agent looks before it goes
        on, because a person had control.

        Raises:
            Forbidden: The person has no control.
            Unavailable: The server does not do that.
        """
        await self.ready()
        self._holding.demand(person)
        async with self._acting.turn:
            self._holding.demand(person)  # it may have ended while something else was done
            await self._display.resize(size)
            self.person_acted(person)
            self._touch()

    def folder(self) -> Path:
        """Of its place; for `exchange`.

        Raises:
            Unavailable: There is no screen, or it is somebody else's.
        """
        machine = self._screen()
        if not isinstance(machine, LocalMachine):
            raise Unavailable("a VNC server of somebody else takes and gives no files")
        self._touch()
        return machine.place.folder

    # -- recording -------------------------------------------------------------------------------

    async def record(self, archive: Archive) -> Recording:
        """Record from now on; a recording that runs goes on.

        Raises:
            Unavailable: There is no screen.
        """
        await self.ready()
        return await self._tape.begin(archive, self._screen)

    def _screen(self) -> Machine:
        if self.machine is None:
            raise Unavailable("the desktop is being replaced")
        return self.machine

    async def end_recording(self, recording_id: str, reason: str = "stopped") -> None:
        """End this recording, if it runs."""
        await self._tape.end(reason, recording_id)

    @property
    def recording(self) -> str:
        """The recording that runs; empty if none does."""
        return self._tape.running

    @property
    def recording_ended(self) -> str:
        """Why the newest recording has ended; empty if it runs, or there is none."""
        return self._tape.ended

    @property
    def recorded_frames(self) -> int:
        """Pictures of the newest recording."""
        return self._tape.frames

    def person_did(self, person: UserId, done: list[Done]) -> None:
        """A person has finished doing something in a live view."""
        if done and self._tape.recorder is not None:
            self._tape.recorder.gestures(done, person)

    def declared(self, point: Point) -> Point:
        """The declared pixel under a native one; as it is while there is no screen."""
        operator = self._display.operator
        return point if operator is None else scaled(point, operator.native, operator.declared)

    # -- actions ---------------------------------------------------------------------------------

    async def picture(self) -> Picture:
        """The screen, for a person."""
        self._touch()
        return await (await self.ready()).look()

    async def perform(self, request: PerformAction) -> ActionReply:
        """Do an action once; the same key again gives the same reply, and presses nothing."""
        return await self._acting.perform(request)

    def cancel(self, agent: ChatId | None, key: str) -> None:
        """End an action of an agent: a reply is no longer wanted."""
        self._acting.cancel(agent, key)
