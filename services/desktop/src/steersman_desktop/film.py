"""A recording as one file: a video where ffmpeg is there, or its pictures and marks as a zip."""

from __future__ import annotations

import asyncio
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from steersman_contracts.errors import Unavailable
from steersman_contracts.rpc.desktop_recordings import FrameMark, Mark, RecordingFormat
from steersman_desktop.archive import frame_path

MEDIA: Final[dict[RecordingFormat, str]] = {"video": "video/mp4", "zip": "application/zip"}
NAMES: Final[dict[RecordingFormat, str]] = {"video": "video.mp4", "zip": "recording.zip"}
_FFMPEG_S: Final = 280.0


def can_film() -> bool:
    """Whether this host can make videos."""
    return shutil.which("ffmpeg") is not None


def cuts(marks: Iterable[Mark], duration_s: float) -> list[tuple[int, float]]:
    """The pictures in order, each with how long it is shown."""
    frames = [mark for mark in marks if isinstance(mark, FrameMark)]
    ends = [mark.at_s for mark in frames[1:]] + [duration_s]
    return [
        # A last picture that is never shown would be no picture.
        (mark.number, max(end - mark.at_s, 0.04))
        for mark, end in zip(frames, ends, strict=True)
    ]


def concat_list(folder: Path, shown: Sequence[tuple[int, float]]) -> str:
    """The list that ffmpeg's concat demuxer reads; it takes the last duration only so."""
    lines = ["ffconcat version 1.0"]
    for number, seconds in shown:
        lines += [f"file '{frame_path(folder, number)}'", f"duration {seconds:.3f}"]
    if shown:
        lines.append(f"file '{frame_path(folder, shown[-1][0])}'")
    return "\n".join(lines) + "\n"


def ffmpeg(source: Path, target: Path) -> list[str]:
    """The command; what it writes can be played up to where it came."""
    return [
        *("ffmpeg", "-nostdin", "-loglevel", "error", "-y"),
        *("-f", "concat", "-safe", "0", "-i", str(source)),
        # Pictures differ in size if the screen did; the format wants even numbers.
        *("-vf", "fps=5,scale=trunc(iw/2)*2:trunc(ih/2)*2"),
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1"),
        *("-movflags", "+faststart", "-f", "mp4", str(target)),
    ]


async def make(
    folder: Path, form: RecordingFormat, marks: Sequence[Mark], duration_s: float
) -> Path:
    """Make the file, unless it is there already.

    Raises:
        Unavailable: There is no ffmpeg, or it cannot do this.
    """
    target = folder / NAMES[form]
    if target.is_file():
        return target
    partial = folder / f".{target.name}"
    if form == "zip":
        await asyncio.to_thread(_zip, folder, partial, marks)
    else:
        await _film(folder, partial, cuts(marks, duration_s))
    partial.replace(target)
    return target


def _zip(folder: Path, target: Path, marks: Sequence[Mark]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # pictures are small already
        archive.write(folder / "recording.json", "recording.json")
        archive.write(folder / "timeline.jsonl", "timeline.jsonl")
        for mark in marks:
            if isinstance(mark, FrameMark):
                path = frame_path(folder, mark.number)
                archive.write(path, f"frames/{path.name}")


async def _film(folder: Path, target: Path, shown: Sequence[tuple[int, float]]) -> None:
    if not can_film():
        raise Unavailable(
            "videos need ffmpeg on the machine of the desktop service; on Debian and Ubuntu: "
            "apt-get install ffmpeg; the pictures are there as a zip"
        )
    source = folder / ".concat"
    await asyncio.to_thread(source.write_text, concat_list(folder, shown))
    process = await asyncio.create_subprocess_exec(
        *ffmpeg(source, target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_FFMPEG_S):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        source.unlink(missing_ok=True)
    if process.returncode:
        raise Unavailable(f"ffmpeg failed: {said.decode(errors='replace')[-300:]}")
