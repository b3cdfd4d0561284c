"""Records one desktop: a picture when the screen has changed, at most twice a second, and marks.

It has a connection of its own, which is asked for changes only when the next picture may be made: a
screen that is still costs nothing, and one that moves always costs two pictures a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import structlog
from PIL import Image
from prometheus_client import Counter

from steersman_contracts.computer_use import to_arguments
from steersman_contracts.desktop import Action
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc.desktop import DesktopControl
from steersman_contracts.rpc.desktop_recordings import ActionMark, ControlMark, Recording
from steersman_desktop.archive import Archive, Writing
from steersman_desktop.gestures import Done
from steersman_desktop.machine import Machine, connected
from steersman_desktop.rfb import RfbClient, RfbError
from steersman_runtime.tasks import TaskGroup

log = structlog.stdlib.get_logger()

INTERVAL_S: Final = 0.5
QUALITY: Final = 60
FIRST_S: Final = 5.0
"""For which the first picture is waited for before anything is done."""
LAST_S: Final = 2.0
"""For which the last one is waited for."""
TOO_LONG: Final = "too long"
TOO_LARGE: Final = "too large"
LIMITS: Final = frozenset({TOO_LONG, TOO_LARGE})
"""Reasons that are no wish of anybody's."""
FRAMES: Final = Counter("steersman_desktop_recorded_frames_total", "Pictures of recordings.")
BYTES: Final = Counter("steersman_desktop_recorded_bytes_total", "Bytes of such pictures.")


class Recorder:
    """One recording, while it runs."""

    def __init__(
        self,
        writing: Writing,
        *,
        limits: tuple[float, int],
        hidden: Callable[[], bool],
    ) -> None:
        """Begin.

        Args:
            writing: Where it goes.
            limits: Seconds and bytes, after which it ends.
            hidden: Whether a person wants the screen not to be seen.
        """
        self._writing = writing
        self._limit_s, self._limit_bytes = limits
        self._hidden = hidden
        self._began = asyncio.get_running_loop().time()
        self._tasks = TaskGroup("recording")
        self._following: asyncio.Task[None] | None = None
        self._machine: Machine | None = None
        self._first = asyncio.Event()
        self.ending = False
        """Whether it has ended, or takes its last picture."""
        self._digest = b""
        self.reason = ""
        """Why it has ended; empty while it runs."""
        self.ended = asyncio.Event()

    @classmethod
    async def begin(
        cls,
        archive: Archive,
        chat_id: ChatId,
        size: tuple[int, int],
        *,
        limits: tuple[float, int],
        hidden: Callable[[], bool],
    ) -> Recorder:
        """Start a recording, which `follow` then feeds."""
        writing = await asyncio.to_thread(archive.begin, chat_id, size, datetime.now(UTC))
        return cls(writing, limits=limits, hidden=hidden)

    @property
    def recording(self) -> Recording:
        """It as it is now."""
        return self._writing.recording

    def follow(self, machine: Machine) -> None:
        """Look at this screen from now on, in place of the one before."""
        if self._following is not None:
            self._following.cancel()
        if not self.ending:
            self._machine = machine
            self._following = self._tasks.start(self._follow(machine))

    async def first(self) -> None:
        """Wait until there is a picture, or it is clear that there is none soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                await self._first.wait()

    def _at(self) -> float:
        return round(asyncio.get_running_loop().time() - self._began, 3)

    async def _follow(self, machine: Machine) -> None:
        try:
            rfb = await connected(machine.address, machine.password)
        except RfbError:
            return  # it is gone already; another one follows, or the end
        try:
            while not self.reason:
                await rfb.refresh()
                await self._take(rfb)
                self._first.set()
                await asyncio.sleep(INTERVAL_S)
                rfb.ask()
                async with asyncio.timeout(max(1.0, self._limit_s - self._at())):
                    await rfb.next_update()
        except RfbError:
            pass
        except TimeoutError:
            await self.end(TOO_LONG)
        finally:
            await rfb.close()

    async def _take(self, rfb: RfbClient) -> None:
        if self._hidden():
            return
        at_s = self._at()
        if at_s > self._limit_s and not self.ending:
            await self.end(TOO_LONG)
            return
        pixels, size = bytes(rfb.pixels), (rfb.width, rfb.height)
        digest, data = await asyncio.to_thread(_encoded, pixels, size, self._digest)
        if not data or self._hidden() or self.reason:
            return
        self._digest = digest
        if self._writing.recording.size + len(data) > self._limit_bytes:
            if not self.ending:
                await self.end(TOO_LARGE)
            return
        await asyncio.to_thread(self._writing.frame, data, at_s)
        FRAMES.inc()
        BYTES.inc(len(data))

    def did(
        self,
        action: Action,
        *,
        call_id: str = "",
        person: UserId | None = None,
        text: str = "",
        is_error: bool = False,
    ) -> None:
        """Note an action."""
        if self.reason or (person is not None and self._hidden()):
            return
        arguments = to_arguments(action)
        self._writing.mark(ActionMark(self._at(), arguments, call_id, person, text, is_error))

    def gestures(self, done: list[Done], person: UserId) -> None:
        """Note what a person has done in a live view."""
        for each in done:
            if not self.reason and not self._hidden():
                at_s = round(max(0.0, each.at_s - self._began), 3)
                self._writing.mark(
                    ActionMark(min(at_s, self._at()), to_arguments(each.action), "", person)
                )

    def changed(self, control: DesktopControl, event_id: str) -> None:
        """Note that the input has changed hands."""
        if not self.reason:
            self._writing.mark(
                ControlMark(self._at(), event_id, control.holder, control.private, control.reason)
            )

    async def end(self, reason: str) -> Recording:
        """Stop; once is enough."""
        if not self.ending:
            self.ending = True
            following = self._following
            if following is not None and following is not asyncio.current_task():
                following.cancel()
                await asyncio.wait({following})
                await self._look_once_more()
            self.reason = reason
            self._first.set()
            at_s = self._at()
            await asyncio.to_thread(self._writing.end, at_s, reason)
            log.info("recording.ended", chat_id=self.recording.chat_id, reason=reason)
            self.ended.set()
        await self.ended.wait()
        return self.recording

    async def _look_once_more(self) -> None:
        """What was done last shows only now."""
        machine = self._machine
        if machine is None or machine.rfb.lost:
            return
        with suppress(RfbError, TimeoutError):
            async with asyncio.timeout(LAST_S):
                rfb = await connected(machine.address, machine.password)
                try:
                    await self._take(rfb)
                finally:
                    await rfb.close()


def _encoded(pixels: bytes, size: tuple[int, int], known: bytes) -> tuple[bytes, bytes]:
    """The digest of a picture, and the picture unless it is the one that is known."""
    digest = hashlib.blake2b(pixels, digest_size=16).digest()
    if digest == known:
        return digest, b""
    image = Image.frombuffer("RGB", size, pixels, "raw", "BGRX", 0, 1)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return digest, out.getvalue()
