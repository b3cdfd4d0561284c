"""A recording as a file: a video that plays as long as it took, and a clear word without ffmpeg."""

from __future__ import annotations

import asyncio
import io
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from integration.desktop.harness import ANN
from PIL import Image

from steersman_contracts.errors import Unavailable
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import desktop_recordings as rpc
from steersman_desktop.archive import Archive
from steersman_desktop.recordings import Recordings
from steersman_desktop.session import Session

CHAT = ChatId("01a00000-0000-7000-8000-000000000000")
SHOWN = ("#ff0000", "#00ff00", "#0000ff")


async def no_desktop(chat_id: ChatId) -> Session:
    raise AssertionError(f"nothing is recorded here: {chat_id}")


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    return Recordings(Archive(str(tmp_path)), {}, no_desktop)


def recorded(recordings: Recordings) -> rpc.Recording:
    """A recording of three pictures in three seconds; the last one is of a larger screen."""
    writing = recordings.archive.begin(CHAT, (320, 200), datetime(2026, 11, 24, tzinfo=UTC))
    for number, colour in enumerate(SHOWN):
        picture = io.BytesIO()
        size = (401, 251) if colour == SHOWN[-1] else (320, 200)
        Image.new("RGB", size, colour).save(picture, "JPEG", quality=60)
        writing.frame(picture.getvalue(), float(number))
    return writing.end(3.0, "stopped")


async def download(recordings: Recordings, one: str, form: rpc.RecordingFormat) -> bytes:
    data = b""
    while True:
        piece = await recordings.download(rpc.ReadDownload(ANN, CHAT, one, form, len(data)))
        if not piece.data:
            return data
        data += piece.data


async def probed(path: Path) -> dict[str, Any]:
    """What ffprobe says of a video."""
    process = await asyncio.create_subprocess_exec(
        *("ffprobe", "-v", "error", "-of", "json", "-count_frames"),
        *("-show_entries", "stream=codec_name,width,height,nb_read_frames:format=duration"),
        str(path),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return msgspec.json.decode(said, type=dict[str, Any])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt-get install ffmpeg")
async def test_a_recording_is_a_video_that_takes_as_long_as_it_took(
    recordings: Recordings, tmp_path: Path
) -> None:
    one = recorded(recordings).id
    both = await asyncio.gather(
        *(recordings.prepare(rpc.PrepareDownload(ANN, CHAT, one, form)) for form in (None, "video"))
    )
    video = tmp_path / "video.mp4"
    video.write_bytes(await download(recordings, one, "video"))
    found = await probed(video)

    assert {made.format for made in both} == {"video"}
    assert both[0] == both[1]
    assert (both[0].media_type, both[0].name) == ("video/mp4", f"desktop-{one}.mp4")
    assert both[0].size == video.stat().st_size
    (stream,) = found["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", 320, 200)
    assert float(found["format"]["duration"]) == pytest.approx(3.0, abs=0.4)
    assert int(stream["nb_read_frames"]) == pytest.approx(15, abs=2)  # five a second


async def test_without_ffmpeg_a_video_is_refused_by_name_and_the_pictures_are_there(
    recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recorded(recordings).id
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match="apt-get install ffmpeg"):
        await recordings.prepare(rpc.PrepareDownload(ANN, CHAT, one, "video"))
    made = await recordings.prepare(rpc.PrepareDownload(ANN, CHAT, one, None))

    assert (made.format, made.media_type) == ("zip", "application/zip")
    assert len(await download(recordings, one, "zip")) == made.size
