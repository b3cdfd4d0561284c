"""A desktop is recorded: what was seen, who did what, and nothing that a person hides."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from integration.desktop.harness import (
    ANN,
    LOOK,
    PATIENCE_S,
    Caller,
    RunningDesktop,
    alone,
    needs_xvnc,
    until,
)
from PIL import Image

from steersman.embedded.nats import NatsServer
from steersman_contracts import desktop as actions
from steersman_contracts.errors import Conflict, NotFound
from steersman_contracts.rpc import desktop as rpc
from steersman_contracts.rpc import desktop_recordings as recorded
from steersman_contracts.rpc.desktop_recordings import ActionMark, ControlMark, FrameMark
from steersman_desktop.archive import Archive
from steersman_desktop.recorder import Recorder

pytestmark = needs_xvnc


class Recorded:
    """The recordings of one chat."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.id = ""

    async def start(self) -> recorded.Recording:
        request = recorded.StartRecording(ANN, self._caller.chat_id)
        found = await self._caller.rpc.call(recorded.START_RECORDING, request)
        self.id = found.id
        return found

    def one(self) -> recorded.OneRecording:
        return recorded.OneRecording(ANN, self._caller.chat_id, self.id)

    async def stop(self) -> recorded.Recording:
        return await self._caller.rpc.call(recorded.STOP_RECORDING, self.one())

    async def timeline(self) -> recorded.Timeline:
        request = recorded.ReadTimeline(ANN, self._caller.chat_id, self.id)
        return await self._caller.rpc.call(recorded.READ_TIMELINE, request)

    async def list(self) -> tuple[recorded.Recording, ...]:
        request = recorded.ListRecordings(ANN, self._caller.chat_id)
        return (await self._caller.rpc.call(recorded.LIST_RECORDINGS, request)).recordings

    async def frame(self, number: int) -> bytes:
        request = recorded.GetFrame(ANN, self._caller.chat_id, self.id, number)
        return (await self._caller.rpc.call(recorded.GET_FRAME, request)).data

    async def file(self, form: recorded.RecordingFormat | None) -> tuple[str, bytes]:
        chat_id = self._caller.chat_id
        request = recorded.PrepareDownload(ANN, chat_id, self.id, form)
        made = await self._caller.rpc.call(recorded.PREPARE_DOWNLOAD, request)
        data = b""
        while len(data) < made.size:
            piece = recorded.ReadDownload(ANN, chat_id, self.id, made.format, len(data))
            data += (await self._caller.rpc.call(recorded.READ_DOWNLOAD, piece)).data
        return made.media_type, data


async def test_what_was_seen_and_done_is_in_the_timeline(
    desktop: RunningDesktop, caller: Caller
) -> None:
    await caller.start((640, 480))
    film = Recorded(caller)
    first = await film.start()
    again = await film.start()
    session = desktop.service.sessions[caller.chat_id]
    await until(lambda: session.recorded_frames > 0)
    before = session.recorded_frames
    await caller.rpc.call(
        rpc.PERFORM_ACTION,
        rpc.PerformAction(caller.chat_id, "k", actions.MouseMove((300, 200)), call_id="call-7"),
    )
    await until(lambda: session.recorded_frames > before)  # the pointer is in the picture
    await caller.take(ANN, private=True)
    await caller.act(actions.MouseMove((5, 6)), actor=ANN)
    await caller.take(ANN, private=False)
    await caller.act(actions.Click(coordinate=(7, 8)), actor=ANN)
    await caller.give_back(ANN)
    with pytest.raises(Conflict, match="still runs"):
        await film.file("zip")
    ended = await film.stop()
    state = await caller.get()
    timeline = await film.timeline()

    assert (first.state, first.width, first.height, again.id) == ("recording", 640, 480, first.id)
    assert (ended.state, ended.reason, state.recording) == ("ended", "stopped", "")
    assert timeline.recording == ended
    assert await film.list() == (ended,)
    times = [mark.at_s for mark in timeline.marks]
    assert times == sorted(times)
    done = [mark for mark in timeline.marks if isinstance(mark, ActionMark)]
    assert [(mark.action, mark.call_id, mark.person) for mark in done] == [
        ({"action": "mouse_move", "coordinate": [300, 200]}, "call-7", None),
        # What was done in private is not here.
        ({"action": "left_click", "coordinate": [7, 8]}, "", "ann"),
    ]
    held = [mark for mark in timeline.marks if isinstance(mark, ControlMark)]
    assert [(mark.holder, mark.private) for mark in held] == [
        ("ann", True),
        ("ann", False),
        (None, False),
    ]
    assert held[0].event_id.startswith(f"desktop-{caller.chat_id}-")
    numbers = [mark.number for mark in timeline.marks if isinstance(mark, FrameMark)]
    assert numbers == list(range(1, ended.frames + 1))
    picture = Image.open(io.BytesIO(await film.frame(1)))
    assert (picture.format, picture.size) == ("JPEG", (640, 480))

    media_type, data = await film.file("zip")
    assert media_type == "application/zip"
    assert len(zipfile.ZipFile(io.BytesIO(data)).namelist()) == ended.frames + 2
    await caller.rpc.call(recorded.DELETE_RECORDING, film.one())
    assert await film.list() == ()
    with pytest.raises(NotFound):
        await film.timeline()


async def test_every_desktop_can_be_recorded_and_a_recording_ends_at_its_limit(
    own_nats: NatsServer, run_dir: Path, own_uid_base: int, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "record": True,
        "recordings_dir": str(tmp_path),
        "max_recording_s": 1.0,
    }
    async with alone(own_nats.url(), run_dir, own_uid_base, **settings) as (service, rpc):
        caller = Caller(rpc)
        await caller.act(LOOK)
        session = service.service.sessions[caller.chat_id]
        await until(lambda: session.recorded_frames > 0 and session.recording == "")
        async with asyncio.timeout(PATIENCE_S):  # the desktop knows before the archive does
            while (recording := (await Recorded(caller).list())[0]).state != "ended":  # noqa: ASYNC110
                await asyncio.sleep(0.03)

    assert (recording.state, recording.reason) == ("ended", "too long")
    assert recording.frames > 0


async def test_a_recording_ends_before_it_is_too_large(
    desktop: RunningDesktop, caller: Caller, tmp_path: Path
) -> None:
    await caller.start((640, 480))
    machine = desktop.service.sessions[caller.chat_id].machine
    assert machine is not None
    recorder = await Recorder.begin(
        Archive(str(tmp_path)),
        caller.chat_id,
        (640, 480),
        limits=(3600.0, 100),
        hidden=lambda: False,
    )
    recorder.follow(machine)
    async with asyncio.timeout(PATIENCE_S):
        await recorder.ended.wait()

    found = recorder.recording
    assert (found.state, found.reason) == ("ended", "too large")
    assert (found.frames, found.size) == (0, 0)  # one picture alone is larger
