"""The screen of one desktop as a small state machine: started once, replaced when it dies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from steersman_contracts.errors import Conflict, SteersmanError, Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.desktop import DesktopState
from steersman_desktop.machine import Machine, Size
from steersman_desktop.measures import RESTARTS
from steersman_desktop.operating import Operator
from steersman_desktop.rfb import RfbClient
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

RESIZE_S: Final = 10.0
MAX_RESTARTS: Final = 3
RESTART_WINDOW_S: Final = 600.0

Open = Callable[[Size], Awaitable[Machine]]


class Display:
    """The screen, and what it runs on while there is one."""

    def __init__(
        self,
        chat_id: ChatId,
        size: Size,
        *,
        open_machine: Open,
        on_up: Callable[[Machine], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Begin, without a screen.

        Args:
            chat_id: Whose desktop it is.
            size: Native.
            open_machine: Starts one.
            on_up: Told each machine when it can be used.
            on_lost: Called when one has died, before the next is started.
        """
        self._chat_id = chat_id
        self._size = size
        self._open = open_machine
        self._on_up = on_up
        self._on_lost = on_lost
        self._tasks = TaskGroup("display")
        self._starting: asyncio.Task[None] | None = None
        self._restarts: deque[float] = deque()
        self.state: DesktopState = "absent"
        self.reason = ""
        """Why it failed, or is being started again."""
        self.machine: Machine | None = None
        """None unless it is ready."""
        self.operator: Operator | None = None
        self.generation = 0

    def go(self, event: str, reason: str = "") -> None:
        """Take one step of `TRANSITIONS`.

        Raises:
            Conflict: It is not possible now.
        """
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise Conflict(f"{event!r} is not possible while the desktop is {self.state!r}")
        self.state, self.reason = following, reason
        log.info("desktop.state", chat_id=self._chat_id, state=following, reason=reason)

    @property
    def ending(self) -> bool:
        """Whether it is being stopped, or has been."""
        return self.state in {"stopping", "gone"}

    async def ready(self) -> Operator:
        """Have it ready; concurrent callers share one start.

        Raises:
            Unavailable: It does not start.
        """
        if self.ending:
            raise Unavailable("the desktop is being stopped")
        if self.state in {"absent", "failed"}:
            self.go("start")
            self._starting = self._tasks.start(self._start(0.0))
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self.operator is None or self.state != "ready":
            raise Unavailable(self.reason or "the desktop did not start")
        return self.operator

    def rfb(self) -> RfbClient:
        """Our connection to the screen.

        Raises:
            Unavailable: There is none at this moment.
        """
        if self.machine is None:
            raise Unavailable("the desktop is being replaced")
        return self.machine.rfb

    async def resize(self, size: Size) -> None:
        """Give the screen another size; windows stay.

        Raises:
            Unavailable: The server does not do that.
        """
        await self.ready()
        rfb = self.rfb()
        rfb.ask_for_size(*size)
        try:
            async with asyncio.timeout(RESIZE_S):
                while (rfb.width, rfb.height) != size:
                    await rfb.refresh()
        except TimeoutError as error:
            raise Unavailable("the screen does not take another size") from error
        self._size = size

    async def stop(self) -> None:
        """End what it runs on, or is being started on."""
        await self._tasks.cancel()
        machine, self.machine, self.operator = self.machine, None, None
        if machine is not None:
            await machine.stop()

    async def _start(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        started = asyncio.get_running_loop().time()
        try:
            machine = await self._open(self._size)
            operator = Operator(machine.rfb, machine.x)
        except (SteersmanError, OSError) as error:
            log.warning("desktop.not_started", error=str(error), **_details(error))
            self.go("fail", _told(error))
            self._starting = None
            return
        self.machine, self.operator = machine, operator
        self.generation += 1
        self._starting = None
        self.go("started")
        machine.rfb.on_lost = self._lost
        self._on_up(machine)
        if machine.rfb.lost:
            self._lost()
        log.info("desktop.started", seconds=asyncio.get_running_loop().time() - started)

    def _lost(self) -> None:
        """The screen died under us: put a new one in its place."""
        if self.state != "ready":
            return
        machine, self.machine, self.operator = self.machine, None, None
        self.go("lose", "the screen ended; a new one is being started")
        self._on_lost()
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
            self.go("fail", f"it ended {count} times within {RESTART_WINDOW_S / 60:g} minutes")
            return
        RESTARTS.labels("replaced").inc()
        await self._start((0.0, 0.0, 1.0, 5.0)[count])


def _details(error: Exception) -> dict[str, object]:
    return dict(error.details) if isinstance(error, SteersmanError) else {}


def _told(error: Exception) -> str:
    """What people are told: not the paths in an error of the system."""
    return str(error) if isinstance(error, SteersmanError) else "the desktop cannot be started"
