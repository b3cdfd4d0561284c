"""Chats of other systems over REST."""

from __future__ import annotations

import msgspec
from litestar import Controller, Response, post, put
from litestar.params import JSONBody

from steersman_contracts.ids import ModelName
from steersman_contracts.imports import ImportedMessage
from steersman_contracts.parts import decode_parts
from steersman_contracts.rest import ImportChatBody, ImportMessageBody, StageImportBody
from steersman_contracts.rpc import imports as rpc
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services
from steersman_gateway.problems import from_msgspec, invalid


class ImportController(Controller):
    """Take in what was said elsewhere."""

    path = "/chats/import"
    tags = ("Chats",)

    @post("/", operation_id="importChat", summary="Import a chat")
    async def import_chat(
        self, data: JSONBody[ImportChatBody], actor: CurrentActor, backend: Services
    ) -> Response[rpc.ImportReply]:
        """Make a chat of yours from the stored messages of another system, all or none of them.

        The form of the messages is described in `docs/import.md`. No turn starts.
        """
        if data.staged and data.client_key is None:
            raise invalid("client_key", "what was brought before is known by its key")
        request = rpc.ImportChat(
            actor,
            tuple(
                imported(index, message) for index, message in enumerate(data.messages, data.staged)
            ),
            title=data.title,
            system_prompt=data.system_prompt,
            model=None if data.model is None else ModelName(data.model),
            client_key=data.client_key,
            created_at=data.created_at,
            staged=data.staged,
        )
        reply = await backend.call(rpc.IMPORT_CHAT, request)
        return Response(reply, headers={"Location": f"/api/v1/chats/{reply.chat.id}"})

    @put(
        "/messages",
        operation_id="stageImport",
        summary="Bring messages of a large chat to import",
        status_code=204,
    )
    async def stage_import(
        self, data: JSONBody[StageImportBody], actor: CurrentActor, backend: Services
    ) -> None:
        """Bring some of a chat's messages in a request of their own.

        They are seen by nobody until the import that says how many there are (`staged`), and
        are forgotten after a day.
        """
        messages = tuple(
            imported(index, message) for index, message in enumerate(data.messages, data.first)
        )
        request = rpc.StageImport(actor, data.client_key, data.first, messages)
        await backend.call(rpc.STAGE_IMPORT, request)


def imported(index: int, message: ImportMessageBody) -> ImportedMessage:
    """Decode what was stored.

    Raises:
        InvalidRequest: It is not what its version says; the field says where.
    """
    where = f"messages[{index}].content"
    for name, at in (("created_at", message.created_at),):
        if at is not None and at.tzinfo is None:
            raise invalid(f"messages[{index}].{name}", "a time needs its offset from UTC")
    try:
        parts = decode_parts(msgspec.json.encode(message.content), message.content_version)
    except msgspec.ValidationError as error:
        found = from_msgspec(error)
        raise invalid(
            f"{where}{found.details['field'].removeprefix('body')}", str(found)
        ) from error
    return ImportedMessage(message.role, parts, message.created_at, message.model)
