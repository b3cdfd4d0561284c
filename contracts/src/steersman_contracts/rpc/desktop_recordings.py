"""Recordings of virtual desktops: pictures when the screen changes, and what was done meanwhile.

They lie in a folder that the instances of the desktop service share. Any instance answers; the one
that has the desktop records.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.desktop import Picture

RecordingId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}$(?!\n)")]
"""When it began, and something random: they sort by time."""
RecordingState: TypeAlias = Literal["recording", "ended"]
RecordingFormat: TypeAlias = Literal["video", "zip"]
MAX_PIECE: Final = 512 << 10
"""Bytes of a download in one reply."""


class Recording(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recording of a chat's desktop."""

    id: RecordingId
    chat_id: ChatId
    state: RecordingState
    started_at: datetime
    width: int
    """Of its pictures."""
    height: int
    duration_s: float = 0.0
    frames: int = 0
    size: int = 0
    """Bytes of its pictures."""
    reason: str = ""
    """Why it ended: `stopped`, `too long`, `too large`, `the desktop ended`, `interrupted`."""


class FrameMark(msgspec.Struct, frozen=True, tag_field="kind", tag="frame"):
    """The screen looked so from here on."""

    at_s: float
    """Seconds since the start, as everywhere in a timeline."""
    number: int
    """Of the picture; the first is 1."""


class ActionMark(msgspec.Struct, frozen=True, tag_field="kind", tag="action", omit_defaults=True):
    """Somebody did something."""

    at_s: float
    action: JsonObject
    """In the words of the `computer` tool."""
    call_id: str = ""
    """The tool call in the chat that did it; empty for people."""
    person: UserId | None = None
    """None: the agent."""
    text: str = ""
    """What came of it."""
    is_error: bool = False


class ControlMark(msgspec.Struct, frozen=True, tag_field="kind", tag="control", omit_defaults=True):
    """The input changed hands."""

    at_s: float
    event_id: str
    """Of the event `desktop.control_changed` in the log of the chat."""
    holder: UserId | None = None
    private: bool = False
    """Nothing is recorded from here until the next mark of this kind."""
    reason: str = ""


Mark: TypeAlias = FrameMark | ActionMark | ControlMark


class StartRecording(msgspec.Struct, frozen=True):
    """Record from now on; a recording that runs goes on. Starts the desktop if there is none."""

    actor: Actor
    chat_id: ChatId


class ListRecordings(msgspec.Struct, frozen=True):
    """All recordings of a chat, newest first."""

    actor: Actor
    chat_id: ChatId


class Recordings(msgspec.Struct, frozen=True):
    """What a chat has."""

    recordings: tuple[Recording, ...]


class OneRecording(msgspec.Struct, frozen=True):
    """A recording, to be read, ended or deleted."""

    actor: Actor
    chat_id: ChatId
    recording_id: RecordingId


class Timeline(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened, a page at a time."""

    recording: Recording
    marks: tuple[Mark, ...]
    """In order of time."""
    has_more: bool = False


class ReadTimeline(msgspec.Struct, frozen=True, omit_defaults=True):
    """The marks of a recording after the first `skip`."""

    actor: Actor
    chat_id: ChatId
    recording_id: RecordingId
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0


class GetFrame(msgspec.Struct, frozen=True):
    """One picture of a recording."""

    actor: Actor
    chat_id: ChatId
    recording_id: RecordingId
    number: Annotated[int, msgspec.Meta(ge=1, le=10**6)]


class PrepareDownload(msgspec.Struct, frozen=True, omit_defaults=True):
    """Make a file of a recording that has ended."""

    actor: Actor
    chat_id: ChatId
    recording_id: RecordingId
    format: RecordingFormat | None = None
    """None: a video where the host can make one, or else its pictures and marks as a zip."""


class PreparedDownload(msgspec.Struct, frozen=True):
    """A file to be read in pieces."""

    format: RecordingFormat
    media_type: str
    name: str
    size: int


class ReadDownload(msgspec.Struct, frozen=True):
    """A piece of such a file."""

    actor: Actor
    chat_id: ChatId
    recording_id: RecordingId
    format: RecordingFormat
    offset: Annotated[int, msgspec.Meta(ge=0)]


class Piece(msgspec.Struct, frozen=True):
    """At most `MAX_PIECE` bytes; none at the end."""

    data: bytes


START_RECORDING: Final = Method(
    "desktop", "recordings.start", StartRecording, Recording, deadline_s=45.0, safe=True
)
STOP_RECORDING: Final = Method("desktop", "recordings.stop", OneRecording, Recording, safe=True)
LIST_RECORDINGS: Final = Method("desktop", "recordings.list", ListRecordings, Recordings, safe=True)
READ_TIMELINE: Final = Method("desktop", "recordings.read", ReadTimeline, Timeline, safe=True)
GET_FRAME: Final = Method("desktop", "recordings.frame", GetFrame, Picture, safe=True)
DELETE_RECORDING: Final = Method("desktop", "recordings.delete", OneRecording, Nothing, safe=True)
PREPARE_DOWNLOAD: Final = Method(
    "desktop",
    "recordings.prepare",
    PrepareDownload,
    PreparedDownload,
    deadline_s=300.0,
    safe=True,
)
READ_DOWNLOAD: Final = Method("desktop", "recordings.download", ReadDownload, Piece, safe=True)
