"""Which chats get a title from a model, and from which model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from steersman_contracts.chats import Status, TitleSource
from steersman_contracts.errors import Conflict
from steersman_contracts.ids import ChatId, ModelName
from steersman_contracts.parts import FilePart, FileReferencePart, Parts, TextPart, decode_parts
from steersman_contracts.rpc import titles as rpc
from steersman_contracts.rpc.models import ProviderType
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcer
from steersman_store.database import Database, json_text
from steersman_store.worker import Worker

CHEAP: Final[Mapping[ProviderType, Sequence[str]]] = {
    "anthropic": ("*haiku*",),
    "openai-responses": ("gpt-*-nano*", "gpt-*-mini*", "gpt-*-luna*"),
    "google": ("gemini-*flash-lite*", "gemini-*flash*"),
    "anthropic-bedrock": ("*haiku*",),
    "anthropic-vertex": ("*haiku*",),
    "google-vertex": ("gemini-*flash-lite*", "gemini-*flash*"),
    "openai-chat": ("*-nano*", "*-mini", "*-mini-*", "*haiku*", "*flash-lite*", "*flash*"),
}
"""Model ids that are good enough for a title, the best choice first, by wire format.

Only models that an admin has enabled are ever called; without a match it is the chat's own."""

USELESS: Final = ("demo/*", "*smollm*", "*-135m*", "*-360m*")
"""Names of models whose titles nobody wants: the demo plays scripts, tiny models ramble."""

TEXT_LENGTH: Final = 4_000
"""Characters of the first message that a title is made from."""


class _Chat(msgspec.Struct):
    id: ChatId
    model: ModelName
    title_source: TitleSource
    status: Status


class _Said(msgspec.Struct):
    chat: _Chat
    delivery: str = ""  # edits of the queue deliver nothing


_decode_said = msgspec.json.Decoder(_Said).decode


def is_useless(model: str) -> bool:
    """Whether a model is not to be asked for titles."""
    return any(fnmatchcase(model.lower(), pattern) for pattern in USELESS)


def choose(
    provider_type: ProviderType, own: ModelName, offered: Mapping[str, ModelName]
) -> tuple[ModelName, ...]:
    """Whom to ask, the cheapest first and the chat's own model last; nobody if all are useless.

    Args:
        provider_type: The wire format of the chat's provider.
        own: The chat's model.
        offered: The enabled models of the same provider, by model id.
    """
    for pattern in CHEAP.get(provider_type, ()):
        fitting = [name for model, name in offered.items() if fnmatchcase(model.lower(), pattern)]
        if fitting:
            wanted = (max(fitting), own)
            break
    else:
        wanted = (own,)
    return tuple(name for name in dict.fromkeys(wanted) if not is_useless(name))


def text_for_title(parts: Parts) -> str:
    """What the first message says, as far as a title needs it."""
    said = [part.text for part in parts if isinstance(part, TextPart)]
    said += [f"(a file: {part.name})" for part in parts if isinstance(part, FilePart)]
    said += [f"(from {part.file_name})" for part in parts if isinstance(part, FileReferencePart)]
    return "\n".join(said).strip()[:TEXT_LENGTH]


def wants_title(reply: bytes) -> ChatId | None:
    """The chat of a reply to a message, if somebody should look for its title."""
    said = _decode_said(reply)
    chat = said.chat
    if chat.title_source != "auto" or chat.status is not Status.RUNNING or is_useless(chat.model):
        return None
    return chat.id if said.delivery == "started" else None


class Titles:
    """The handlers that are about titles."""

    def __init__(self, database: Database, announcer: Announcer, worker: Worker) -> None:
        self._database = database
        self._announcer = announcer
        self._worker = worker

    def serve(self, server: RpcServer) -> None:
        """Answer the methods."""
        server.add(rpc.REGENERATE_TITLE, self.regenerate)
        server.add(rpc.TAKE_TITLE, self.take)
        server.add(rpc.SET_GENERATED_TITLE, self.set_generated)

    async def regenerate(self, request: rpc.RegenerateTitle) -> msgspec.Raw:
        row = await self._database.row(
            "SELECT reply FROM regenerate_title($1, $2)", request.actor.user_id, request.chat_id
        )
        assert row is not None  # a function call always has a row
        reply: bytes = row["reply"].encode()
        model = _decode_said(reply).chat.model
        if is_useless(model):
            raise Conflict(f"{model!r} is not good at titles", model=model)
        self._announcer.unnamed(request.chat_id)
        return msgspec.Raw(reply)

    async def take(self, request: rpc.TakeTitle) -> rpc.TitleTask:
        row = await self._database.row(
            "SELECT * FROM take_title($1, $2)", request.chat_id, rpc.MAX_ATTEMPTS
        )
        if row is None:
            return rpc.TitleTask()
        offered = dict(zip(row["model_ids"], row["model_names"], strict=True))
        names = choose(row["provider_type"], row["model"], offered)
        text = text_for_title(decode_parts(row["content"]))
        if not names or not text:
            return rpc.TitleTask()
        models = [await self._worker.access(request.chat_id, name) for name in names]
        return rpc.TitleTask(text, tuple(models), row["title_source"])

    async def set_generated(self, request: rpc.SetGeneratedTitle) -> rpc.TitleSet:
        accepted: bool = await self._database.value(
            "SELECT set_generated_title($1, $2, $3, $4, $5)",
            request.chat_id,
            request.title,
            request.model,
            request.replaces,
            None if request.usage is None else json_text(request.usage),
        )
        if accepted:
            self._announcer.changed(request.chat_id)
        return rpc.TitleSet(accepted)
