"""Recordings of desktops over REST."""

from __future__ import annotations

import re
from typing import Annotated, Final

from litestar import Controller, Response, delete, get, post
from litestar.params import PathParameter, QueryParameter
from litestar.types import Receive, Scope, Send

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import desktop_recordings as rpc
from steersman_contracts.rpc.chats import GET, GetChat
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Backend, Services
from steersman_gateway.desktop import check_changeable
from steersman_gateway.files import content_disposition
from steersman_gateway.ids import ChatInPath

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

    @post("/", operation_id="startRecording", summary="Record the desktop", status_code=200)
    async def start(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> rpc.Recording:
        """Record from now on; one that runs goes on. Starts the desktop if there is none."""
        await check_changeable(backend, actor, chat)
        return await backend.call(rpc.START_RECORDING, rpc.StartRecording(actor, chat))

    @get("/", operation_id="listRecordings", summary="List the recordings")
    async def list_recordings(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> rpc.Recordings:
        """All recordings of the chat's desktop, newest first."""
        await _check(backend, actor, chat)
        return await backend.call(rpc.LIST_RECORDINGS, rpc.ListRecordings(actor, chat))

    @get("/{recording_id:str}", operation_id="getRecording", summary="Get a recording")
    async def read(
        self,
        chat: ChatInPath,
        recording_id: RecordingIdText,
        actor: CurrentActor,
        backend: Services,
        skip: Skip = 0,
    ) -> rpc.Timeline:
        """A recording and its marks: pictures, actions and changes of control, 1,000 at a time."""
        await _check(backend, actor, chat)
        request = rpc.ReadTimeline(actor, chat, _known(recording_id), skip)
        return await backend.call(rpc.READ_TIMELINE, request)

    @get(
        "/{recording_id:str}/frames/{number:int}",
        operation_id="getRecordedFrame",
        summary="Get a picture of a recording",
        media_type="image/jpeg",
    )
    async def frame(
        self,
        chat: ChatInPath,
        recording_id: RecordingIdText,
        number: FrameNumber,
        actor: CurrentActor,
        backend: Services,
    ) -> Response[bytes]:
        """The screen as it was from a mark of the timeline on, as JPEG."""
        await _check(backend, actor, chat)
        if not 1 <= number <= 10**6:
            raise NotFound("the recording has no such picture")
        request = rpc.GetFrame(actor, chat, _known(recording_id), number)
        picture = await backend.call(rpc.GET_FRAME, request)
        # A picture never changes.
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response(picture.data, media_type=picture.media_type, headers=headers)

    @post(
        "/{recording_id:str}/stop",
        operation_id="stopRecording",
        summary="Stop a recording",
        status_code=200,
    )
    async def stop(
        self,
        chat: ChatInPath,
        recording_id: RecordingIdText,
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Recording:
        """End a recording, which can then be downloaded. One that has ended stays as it is."""
        await _check(backend, actor, chat)
        request = rpc.OneRecording(actor, chat, _known(recording_id))
        return await backend.call(rpc.STOP_RECORDING, request)

    @delete("/{recording_id:str}", operation_id="deleteRecording", summary="Delete a recording")
    async def remove(
        self,
        chat: ChatInPath,
        recording_id: RecordingIdText,
        actor: CurrentActor,
        backend: Services,
    ) -> None:
        """Remove a recording for good, also one that runs. None at all is fine."""
        await _check(backend, actor, chat)
        request = rpc.OneRecording(actor, chat, _known(recording_id))
        await backend.call(rpc.DELETE_RECORDING, request)

    @get(
        "/{recording_id:str}/download",
        operation_id="downloadRecording",
        summary="Download a recording",
    )
    async def download(
        self,
        chat: ChatInPath,
        recording_id: RecordingIdText,
        actor: CurrentActor,
        backend: Services,
        format: Format = None,  # noqa: A002, RUF100  # the name of the parameter
    ) -> Film:
        """A recording that has ended as MP4, or its pictures and marks as a zip file."""
        await _check(backend, actor, chat)
        request = rpc.PrepareDownload(actor, chat, _known(recording_id), format)
        made = await backend.call(rpc.PREPARE_DOWNLOAD, request)
        return Film(backend, request, made)


class Film:
    """A recording on its way to a client: an ASGI application for a single exchange."""

    def __init__(
        self, backend: Backend, request: rpc.PrepareDownload, made: rpc.PreparedDownload
    ) -> None:
        self._backend = backend
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
        return (await self._backend.call(rpc.READ_DOWNLOAD, request)).data


def _known(text: str) -> str:
    if not _ID.fullmatch(text):
        raise NotFound("the chat has no such recording")
    return text


async def _check(backend: Backend, actor: Actor, chat: ChatId) -> None:
    """The store knows whose chat it is; the desktop service does not."""
    await backend.call(GET, GetChat(actor, chat))
