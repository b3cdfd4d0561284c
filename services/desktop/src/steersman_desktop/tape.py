"""The recording of one desktop: at most one at a time, whichever screen it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.desktop_recordings import Recording
from steersman_desktop.archive import Archive
from steersman_desktop.machine import Machine
from steersman_desktop.recorder import Recorder


class Tape:
    """The newest recording of a desktop, which runs or has ended."""

    def __init__(
        self, chat_id: ChatId, limits: tuple[float, int], *, hidden: Callable[[], bool]
    ) -> None:
        """Begin, with none.

        Args:
            chat_id: Whose desktop it is.
            limits: Seconds and bytes of one recording.
            hidden: Whether a person wants the screen not to be seen.
        """
        self._chat_id = chat_id
        self._limits = limits
        self._hidden = hidden
        self._beginning = asyncio.Lock()
        self.recorder: Recorder | None = None

    async def begin(self, archive: Archive, machine: Callable[[], Machine]) -> Recording:
        """Record from now on; a recording that runs goes on.

        Args:
            archive: Where it goes.
            machine: Asked for when there is none that runs; may raise.
        """
        async with self._beginning:
            recorder = self.recorder
            if recorder is not None and not recorder.ending:
                return recorder.recording
            if recorder is not None:
                await recorder.end("")  # until it is
            screen = machine()
            self.recorder = await Recorder.begin(
                archive,
                self._chat_id,
                (screen.rfb.width, screen.rfb.height),
                limits=self._limits,
                hidden=self._hidden,
            )
            self.recorder.follow(screen)
            await self.recorder.first()
            return self.recorder.recording

    async def end(self, reason: str, recording_id: str = "") -> None:
        """End the recording that runs, if it is the one that is meant."""
        recorder = self.recorder
        if recorder is not None and recording_id in {"", recorder.recording.id}:
            await recorder.end(reason)

    @property
    def running(self) -> str:
        """The id of the recording that runs; empty if none does."""
        recorder = self.recorder
        return "" if recorder is None or recorder.ending else recorder.recording.id

    @property
    def ended(self) -> str:
        """Why the newest recording has ended; empty if it runs, or there is none."""
        return "" if self.recorder is None else self.recorder.reason

    @property
    def frames(self) -> int:
        """Pictures of the newest recording."""
        return 0 if self.recorder is None else self.recorder.recording.frames
