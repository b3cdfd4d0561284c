"""Answers the methods about recordings, from the archive and from the desktops that record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from steersman_contracts.errors import Conflict, NotFound
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import desktop_recordings as rpc
from steersman_contracts.rpc.desktop import Picture
from steersman_desktop import film
from steersman_desktop.archive import Archive
from steersman_desktop.session import Session

log = structlog.stdlib.get_logger()

SWEEP_S: Final = 600.0

Open = Callable[[ChatId], Awaitable[Session]]


class Recordings:
    """The recordings of the chats whose requests come here."""

    def __init__(
        self, archive: Archive, sessions: Mapping[ChatId, Session], open_session: Open
    ) -> None:
        self.archive = archive
        self._sessions = sessions
        self._open = open_session
        self._making: dict[Path, asyncio.Lock] = {}

    async def sweep(self, keep_s: float) -> None:
        """Delete what is too old."""
        removed = await asyncio.to_thread(self.archive.sweep, keep_s, datetime.now(UTC))
        if removed:
            log.info("recordings.removed", count=removed)

    async def chats(self) -> set[ChatId]:
        """Those that have recordings."""
        return await asyncio.to_thread(self.archive.chats)

    async def forget(self, chat_id: ChatId) -> None:
        """Delete all of a chat that is no more."""
        if removed := await asyncio.to_thread(self.archive.forget, chat_id):
            log.info("recordings.forgotten", chat_id=chat_id, count=removed)

    async def start(self, request: rpc.StartRecording) -> rpc.Recording:
        session = await self._open(request.chat_id)
        return await session.record(self.archive)

    async def stop(self, request: rpc.OneRecording) -> rpc.Recording:
        await self._end(request)
        return await self._read(request)

    async def list(self, request: rpc.ListRecordings) -> rpc.Recordings:
        return rpc.Recordings(await asyncio.to_thread(self.archive.list, request.chat_id))

    async def timeline(self, request: rpc.ReadTimeline) -> rpc.Timeline:
        found = await asyncio.to_thread(self.archive.read, request.chat_id, request.recording_id)
        marks, more = await asyncio.to_thread(
            self.archive.timeline, request.chat_id, request.recording_id, request.skip
        )
        return rpc.Timeline(found, marks, more)

    async def frame(self, request: rpc.GetFrame) -> Picture:
        data = await asyncio.to_thread(
            self.archive.frame, request.chat_id, request.recording_id, request.number
        )
        return Picture("image/jpeg", data, 0, 0, "")

    async def delete(self, request: rpc.OneRecording) -> Nothing:
        await self._end(request)
        await asyncio.to_thread(self.archive.delete, request.chat_id, request.recording_id)
        return Nothing()

    async def prepare(self, request: rpc.PrepareDownload) -> rpc.PreparedDownload:
        found = await asyncio.to_thread(self.archive.read, request.chat_id, request.recording_id)
        if found.state != "ended":
            raise Conflict("the recording still runs; stop it first")
        if not found.frames:
            raise NotFound("the recording has no pictures")
        form = request.format or ("video" if film.can_film() else "zip")
        folder = self.archive.folder_of(request.chat_id, request.recording_id)
        async with self._making.setdefault(folder, asyncio.Lock()):
            marks = await self._marks(request.chat_id, request.recording_id)
            path = await film.make(folder, form, marks, found.duration_s)
        self._making.pop(folder, None)
        size = (await asyncio.to_thread(path.stat)).st_size
        name = f"desktop-{found.id}{path.suffix}"
        return rpc.PreparedDownload(form, film.MEDIA[form], name, size)

    async def download(self, request: rpc.ReadDownload) -> rpc.Piece:
        folder = self.archive.folder_of(request.chat_id, request.recording_id)
        path = folder / film.NAMES[request.format]
        return rpc.Piece(await asyncio.to_thread(_piece, path, request.offset))

    async def _end(self, request: rpc.OneRecording) -> None:
        session = self._sessions.get(request.chat_id)
        if session is not None:
            await session.end_recording(request.recording_id)

    async def _read(self, request: rpc.OneRecording) -> rpc.Recording:
        return await asyncio.to_thread(self.archive.read, request.chat_id, request.recording_id)

    async def _marks(self, chat_id: ChatId, recording_id: str) -> tuple[rpc.Mark, ...]:
        marks: tuple[rpc.Mark, ...] = ()
        more = True
        while more:
            page, more = await asyncio.to_thread(
                self.archive.timeline, chat_id, recording_id, len(marks)
            )
            marks += page
        return marks


def _piece(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(rpc.MAX_PIECE)
    except FileNotFoundError as error:
        raise NotFound("the download was not prepared, or is gone") from error
