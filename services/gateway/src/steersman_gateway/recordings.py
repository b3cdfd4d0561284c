"""Recordings of desktops over REST."""

from __future__ import annotations

import re
from typing import Annotated, Final

from litestar import Controller, Response, delete, get, post
from litestar.di import Provide
from litestar.params import PathParameter, QueryParameter
from litestar.types import Receive, Scope, Send

from steersman_contracts.errors import NotFound
from steersman_contracts.rpc import desktop_recordings as rpc
from steersman_gateway.chat_desktop import ChatDesktop, DesktopOfChat, provide_desktop
from steersman_gateway.files import content_disposition

RecordingIdText = Annotated[str, PathParameter(description="The recording.")]
FrameNumber = Annotated[int, PathParameter(description="The picture; the first is 1.")]
Skip = Annotated[int, QueryParameter(description="Marks to leave out.", ge=0, le=2**31)]
Format = Annotated[
    rpc.RecordingFormat | None,
    QueryParameter(
        description="`video` needs ffmpeg on the desktop's host; the best there is by default."
    ),
]
_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")


class RecordingController(Controller):
    """What was seen and done on the desktop of a chat."""

    path = "/chats/{chat_id:str}/desktop/recordings"
    tags = ("Desktop",)
    dependencies = {"desktop": Provide(provide_desktop)}  # noqa: RUF012  # as Litestar reads it

    @post("/", operation_id="startRecording", summary="Record the desktop", status_code=200)
    async def start(self, desktop: DesktopOfChat) -> rpc.Recording:
        """Record from now on; one that runs goes on. Starts the desktop if there is none."""
        return await desktop.change(rpc.START_RECORDING, rpc.StartRecording(*desktop.ids))

    @get("/", operation_id="listRecordings", summary="List the recordings")
    async def list_recordings(self, desktop: DesktopOfChat) -> rpc.Recordings:
        """All recordings of the chat's desktop, newest first."""
        return await desktop.call(rpc.LIST_RECORDINGS, rpc.ListRecordings(*desktop.ids))

    @get("/{recording_id:str}", operation_id="getRecording", summary="Get a recording")
    async def read(
        self, desktop: DesktopOfChat, recording_id: RecordingIdText, skip: Skip = 0
    ) -> rpc.Timeline:
        """A recording and its marks: pictures, actions and changes of control, 1,000 at a time."""
        request = rpc.ReadTimeline(*desktop.ids, known_recording(recording_id), skip)
        return await desktop.call(rpc.READ_TIMELINE, request)

    @get(
        "/{recording_id:str}/frames/{number:int}",
        operation_id="getRecordedFrame",
        summary="Get a picture of a recording",
        media_type="image/jpeg",
    )
    async def frame(
        self, desktop: DesktopOfChat, recording_id: RecordingIdText, number: FrameNumber
    ) -> Response[bytes]:
        """The screen as it was from a mark of the timeline on, as JPEG."""
        if not 1 <= number <= 10**6:
            raise NotFound("the recording has no such picture")
        request = rpc.GetFrame(*desktop.ids, known_recording(recording_id), number)
        picture = await desktop.call(rpc.GET_FRAME, request)
        # A picture never changes.
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response(picture.data, media_type=picture.media_type, headers=headers)

    @post(
        "/{recording_id:str}/stop",
        operation_id="stopRecording",
        summary="Stop a recording",
        status_code=200,
    )
    async def stop(self, desktop: DesktopOfChat, recording_id: RecordingIdText) -> rpc.Recording:
        """End a recording, which can then be downloaded. One that has ended stays as it is."""
        request = rpc.OneRecording(*desktop.ids, known_recording(recording_id))
        return await desktop.call(rpc.STOP_RECORDING, request)

    @delete("/{recording_id:str}", operation_id="deleteRecording", summary="Delete a recording")
    async def remove(self, desktop: DesktopOfChat, recording_id: RecordingIdText) -> None:
        """Remove a recording for good, also one that runs. None at all is fine."""
        request = rpc.OneRecording(*desktop.ids, known_recording(recording_id))
        await desktop.call(rpc.DELETE_RECORDING, request)

    @get(
        "/{recording_id:str}/download",
        operation_id="downloadRecording",
        summary="Download a recording",
    )
    async def download(
        self,
        desktop: DesktopOfChat,
        recording_id: RecordingIdText,
        format: Format = None,  # noqa: A002, RUF100  # the name of the parameter
    ) -> Film:
        """A recording that has ended as MP4, or its pictures and marks as a zip file."""
        request = rpc.PrepareDownload(*desktop.ids, known_recording(recording_id), format)
        made = await desktop.call(rpc.PREPARE_DOWNLOAD, request)
        return Film(desktop, request, made)


class Film:
    """A recording on its way to a client: an ASGI application for a single exchange."""

    def __init__(
        self, desktop: ChatDesktop, request: rpc.PrepareDownload, made: rpc.PreparedDownload
    ) -> None:
        self._desktop = desktop
        self._request = request
        self._made = made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers, then piece after piece as fast as the client takes them."""
        made = self._made
        data = await self._piece(0)
        headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"private, no-cache"),
            (b"content-type", made.media_type.encode()),
            (b"content-length", str(made.size).encode()),
            (b"content-disposition", content_disposition(made.name).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        at = 0
        while at < made.size:
            if not data:  # deleted meanwhile: the length that was announced shows it
                raise NotFound("the recording was deleted")
            at += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})
            data = await self._piece(at) if at < made.size else b""
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _piece(self, offset: int) -> bytes:
        wanted = self._request
        request = rpc.ReadDownload(
            wanted.actor, wanted.chat_id, wanted.recording_id, self._made.format, offset
        )
        return (await self._desktop.call(rpc.READ_DOWNLOAD, request)).data


def known_recording(text: str) -> str:
    """Check the shape of the id of a recording.

    Raises:
        NotFound: It has not the shape of one.
    """
    if not _ID.fullmatch(text):
        raise NotFound("the chat has no such recording")
    return text
