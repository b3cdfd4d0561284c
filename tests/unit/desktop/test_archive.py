"""Recordings on disk: written down as they come, read by anybody, ended by whatever happens."""

from __future__ import annotations

import os
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.desktop_recordings import ActionMark, FrameMark
from steersman_desktop import film
from steersman_desktop.archive import Archive

CHAT = ChatId("01a00000-0000-7000-8000-000000000000")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_recording_can_be_read_while_it_runs_and_after(tmp_path: Path) -> None:
    archive, other = Archive(str(tmp_path)), Archive(str(tmp_path))
    writing = archive.begin(CHAT, (640, 480), NOW)
    writing.frame(b"one", 0.0)
    writing.mark(ActionMark(1.5, {"action": "left_mouse_down"}, "call-1", text="Down."))
    writing.frame(b"two!", 2.0)
    writing.mark(ActionMark(0.5, {"action": "type", "text": "x"}, person=None))

    running = other.read(CHAT, writing.recording.id)
    marks, more = other.timeline(CHAT, running.id)
    ended = writing.end(3.0, "stopped")
    writing.frame(b"late", 4.0)

    assert (running.state, running.frames, running.size) == ("recording", 2, 7)
    assert [mark.at_s for mark in marks] == [0.0, 0.5, 1.5, 2.0]
    assert not more
    assert other.read(CHAT, running.id) == ended
    assert (ended.state, ended.reason, ended.duration_s) == ("ended", "stopped", 3.0)
    assert other.frame(CHAT, running.id, 2) == b"two!"
    with pytest.raises(NotFound):
        other.frame(CHAT, running.id, 3)
    assert other.list(CHAT) == (ended,)
    other.delete(CHAT, running.id)
    other.delete(CHAT, running.id)
    assert other.list(CHAT) == ()
    assert list(tmp_path.iterdir()) == []


def test_one_whose_recorder_has_died_has_ended(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path))
    writing = archive.begin(CHAT, (640, 480), NOW)
    writing.frame(b"one", 0.7)
    with (writing.folder / "timeline.jsonl").open("ab") as marks:
        marks.write(b'{"kind":"frame","at')  # cut off in the middle
    # What the kernel does when a process dies.
    os.close(writing._lock)  # pyright: ignore[reportPrivateUsage]  # see above
    writing._marks.close()  # pyright: ignore[reportPrivateUsage]  # see above

    found = archive.read(CHAT, writing.recording.id)

    assert (found.state, found.reason, found.frames) == ("ended", "interrupted", 1)
    assert found.duration_s == 0.7


def test_old_ones_are_removed_and_those_that_run_are_not(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path))
    old, running, new = (
        archive.begin(CHAT, (2, 2), at)
        for at in (NOW - timedelta(days=8), NOW - timedelta(days=9), NOW)
    )
    old.end(0.0, "stopped")
    new.end(0.0, "stopped")

    assert archive.sweep(7 * 86_400, NOW) == 1
    assert {one.id for one in archive.list(CHAT)} == {running.recording.id, new.recording.id}
    running.end(0.0, "stopped")


def test_of_a_chat_that_is_no_more_only_what_runs_is_left(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path))
    (tmp_path / "not-a-chat").mkdir()
    ended, broken, running = (archive.begin(CHAT, (2, 2), NOW) for _ in range(3))
    ended.end(0.0, "stopped")
    broken.end(0.0, "stopped")
    (broken.folder / "recording.json").unlink()

    assert archive.chats() == {CHAT}
    assert archive.forget(CHAT) == 2
    assert [one.id for one in archive.list(CHAT)] == [running.recording.id]
    running.end(0.0, "stopped")
    assert archive.forget(CHAT) == 1
    assert archive.chats() == set()
    assert archive.forget(CHAT) == 0


def test_a_film_shows_each_picture_until_the_next(tmp_path: Path) -> None:
    marks = [FrameMark(0.0, 1), ActionMark(0.5, {"action": "screenshot"}), FrameMark(1.25, 2)]

    shown = film.cuts(marks, 3.0)
    text = film.concat_list(tmp_path, shown)
    command = film.ffmpeg(tmp_path / "list", tmp_path / "out")

    assert shown == [(1, 1.25), (2, 1.75)]
    assert film.cuts(marks, 1.25)[-1] == (2, 0.04)
    assert text.splitlines() == [
        "ffconcat version 1.0",
        f"file '{tmp_path}/000001.jpg'",
        "duration 1.250",
        f"file '{tmp_path}/000002.jpg'",
        "duration 1.750",
        f"file '{tmp_path}/000002.jpg'",
    ]
    assert command[0] == "ffmpeg"
    assert command[-1] == str(tmp_path / "out")


async def test_a_zip_holds_all_of_it(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path))
    writing = archive.begin(CHAT, (2, 2), NOW)
    writing.frame(b"one", 0.0)
    recording = writing.end(1.0, "stopped")
    marks, _ = archive.timeline(CHAT, recording.id)

    path = await film.make(writing.folder, "zip", marks, 1.0)
    again = await film.make(writing.folder, "zip", (), 1.0)

    assert again == path
    with zipfile.ZipFile(path) as made:
        assert made.namelist() == ["recording.json", "timeline.jsonl", "frames/000001.jpg"]
        assert made.read("frames/000001.jpg") == b"one"
