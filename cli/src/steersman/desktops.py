"""`steersman desktop`: the virtual desktops of chats and their recordings, over the public API."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from steersman.chat.words import harmless
from steersman.desktop_places import COMMANDS, chat_argument
from steersman.remote import checked, run, table, where
from steersman_contracts.ids import ChatId
from steersman_contracts.rest_desktop import StartDesktopBody
from steersman_contracts.rpc.desktop import Desktop
from steersman_contracts.rpc.desktop_recordings import (
    ActionMark,
    ControlMark,
    FrameMark,
    Mark,
    Recording,
    RecordingFormat,
    RecordingId,
)

if TYPE_CHECKING:
    from steersman.client import Client

_TO: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


def _recording_id(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return msgspec.convert(value, RecordingId)
    except msgspec.ValidationError:
        raise click.BadParameter(f"not the id of a recording: {value!r}") from None


_recording: Final = click.argument("recording", callback=_recording_id)


@click.group(
    epilog="""\b
Examples:
  steersman desktop start 0192f0c4-8f6b-7c5a-9d2e-3b1a5c7d9e0f --size 1920x1080
  steersman desktop screenshot 0192f0c4-8f6b-7c5a-9d2e-3b1a5c7d9e0f screen.png
  steersman desktop recordings list 0192f0c4-8f6b-7c5a-9d2e-3b1a5c7d9e0f
"""
)
def desktop() -> None:
    """The virtual desktop of a chat: start, stop and see it, its files and its recordings."""


@desktop.command()
@chat_argument
@click.option("--size", metavar="WIDTHxHEIGHT", help="Of a new one; one that runs keeps its own.")
@where
def start(
    *, chat: ChatId, size: str | None, url: str | None, token: str | None, data: Path | None
) -> None:
    """Have a desktop for the chat CHAT, and wait until it can be used."""
    wanted = checked(read_size(size))
    made = run(
        lambda client: client.start_desktop(chat, width=wanted.width, height=wanted.height),
        url,
        token,
        data,
    )
    _tell(made)


@desktop.command()
@chat_argument
@where
def stop(*, chat: ChatId, url: str | None, token: str | None, data: Path | None) -> None:
    """End the desktop of the chat CHAT and everything on it."""
    run(lambda client: client.stop_desktop(chat), url, token, data)
    click.echo("the desktop is stopped")


@desktop.command()
@chat_argument
@where
def state(*, chat: ChatId, url: str | None, token: str | None, data: Path | None) -> None:
    """Say how the desktop of the chat CHAT is, and who has control of it."""
    _tell(run(lambda client: client.get_desktop(chat), url, token, data))


@desktop.command()
@chat_argument
@click.argument("to", type=_TO)
@where
def screenshot(
    *, chat: ChatId, to: Path, url: str | None, token: str | None, data: Path | None
) -> None:
    """Write what is on the screen to the file TO, as PNG; `-` prints it."""
    _write(to, run(lambda client: client.desktop_screenshot(chat), url, token, data))


@desktop.group()
def recordings() -> None:
    """Recordings of the desktop of a chat."""


@recordings.command("start")
@chat_argument
@where
def start_recording(*, chat: ChatId, url: str | None, token: str | None, data: Path | None) -> None:
    """Record from now on; starts the desktop if there is none."""
    click.echo(run(lambda client: client.start_recording(chat), url, token, data).id)


@recordings.command("stop")
@chat_argument
@_recording
@where
def stop_recording(
    *, chat: ChatId, recording: str, url: str | None, token: str | None, data: Path | None
) -> None:
    """End the recording RECORDING."""
    _list([run(lambda client: client.stop_recording(chat, recording), url, token, data)])


@recordings.command("list")
@chat_argument
@where
def list_recordings(*, chat: ChatId, url: str | None, token: str | None, data: Path | None) -> None:
    """List all recordings of the chat CHAT, newest first."""
    _list(run(lambda client: client.recordings(chat), url, token, data))


@recordings.command()
@chat_argument
@_recording
@where
def get(
    *, chat: ChatId, recording: str, url: str | None, token: str | None, data: Path | None
) -> None:
    """Print what happened in the recording RECORDING."""

    async def work(client: Client) -> list[Mark]:
        marks: list[Mark] = []
        more = True
        while more:
            page = await client.get_recording(chat, recording, len(marks))
            marks += page.marks
            more = page.has_more and bool(page.marks)
        return marks

    for mark in run(work, url, token, data):
        click.echo(mark_line(mark))


@recordings.command()
@chat_argument
@_recording
@click.argument("to", type=_TO)
@click.option("--format", "form", type=click.Choice(("video", "zip")), help="Else what there is.")
@where
def download(
    *,
    chat: ChatId,
    recording: str,
    to: Path,
    form: RecordingFormat | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Write the recording RECORDING, which has ended, to the file TO; `-` prints it."""
    _write(
        to, run(lambda client: client.download_recording(chat, recording, form), url, token, data)
    )


@recordings.command()
@chat_argument
@_recording
@click.option("--yes", is_flag=True, help="Do not ask.")
@where
def delete(
    *,
    chat: ChatId,
    recording: str,
    yes: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Remove the recording RECORDING for good."""
    if not yes:
        click.confirm(f"Remove the recording {recording!r}?", abort=True)
    run(lambda client: client.delete_recording(chat, recording), url, token, data)
    click.echo(f"{recording} is deleted")


for _command in COMMANDS:
    desktop.add_command(_command)


def read_size(text: str | None) -> StartDesktopBody:
    """Turn `WIDTHxHEIGHT` into a request; the server knows which sizes are possible.

    Raises:
        click.UsageError: It is not of that form.
    """
    if text is None:
        return StartDesktopBody()
    width, sign, height = text.partition("x")
    if not (sign and width.isdecimal() and height.isdecimal() and len(text) < 20):
        raise click.UsageError(f"--size is WIDTHxHEIGHT, like 1280x800; {text!r} is not")
    return StartDesktopBody(int(width), int(height))


def desktop_lines(found: Desktop) -> list[str]:
    """What is shown of a desktop."""
    lines = [f"state    {found.state}" + (f": {harmless(found.reason)}" if found.reason else "")]
    if found.width:
        lines.append(f"size     {found.width}x{found.height}")
        lines.append(f"viewers  {found.viewers}")
        private = ", in private" if found.control.private else ""
        lines.append(f"control  {harmless(found.control.holder or 'the agent')}{private}")
    if found.recording:
        lines.append(f"records  {found.recording}")
    return lines


def mark_line(mark: Mark) -> str:
    """One line of what happened. Nothing in it can steer a terminal."""
    at = f"{mark.at_s:9.2f}  "
    match mark:
        case FrameMark():
            return f"{at}picture {mark.number}"
        case ActionMark():
            who = mark.person or "agent"
            what = msgspec.json.encode(mark.action).decode()
            failed = "  (failed)" if mark.is_error else ""
            return at + harmless(f"{who}: {what}{failed}")
        case ControlMark():
            private = " in private" if mark.private else ""
            return at + harmless(f"control: {mark.holder or 'the agent'}{private} ({mark.reason})")


def _list(found: Iterable[Recording]) -> None:
    table(
        ("ID", "STATE", "STARTED", "SECONDS", "PICTURES", "BYTES", "REASON"),
        [
            (
                one.id,
                one.state,
                one.started_at.isoformat(" ", "seconds"),
                f"{one.duration_s:.1f}",
                str(one.frames),
                str(one.size),
                harmless(one.reason),
            )
            for one in found
        ],
    )


def _tell(found: Desktop) -> None:
    for line in desktop_lines(found):
        click.echo(line)


def _write(to: Path, content: bytes) -> None:
    if str(to) == "-":
        sys.stdout.buffer.write(content)
    else:
        to.write_bytes(content)
