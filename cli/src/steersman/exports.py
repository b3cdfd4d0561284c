"""JSON-lines exports of other systems: read line by line, checked, and put together to chats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec

from steersman_contracts.chats import Role
from steersman_contracts.imports import ImportedMessage, NotAHistory, whole
from steersman_contracts.parts import LEGACY_VERSION, decode_parts
from steersman_contracts.rest import ImportChatBody, ImportMessageBody

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]


class ChatLine(
    msgspec.Struct, frozen=True, tag_field="type", tag="chat", forbid_unknown_fields=True
):
    """Begins a chat."""

    id: Id
    title: str = ""
    model: str | None = None
    system_prompt: str = ""
    created_at: datetime | None = None


class MessageLine(
    msgspec.Struct, frozen=True, tag_field="type", tag="message", forbid_unknown_fields=True
):
    """One stored row of the chat that began last."""

    role: Role
    content: Any
    chat_id: Id | None = None
    content_version: Literal[0, 1] = LEGACY_VERSION
    created_at: datetime | None = None
    model: str | None = None


Line: TypeAlias = ChatLine | MessageLine

_decode = msgspec.json.Decoder(Line).decode


class LineError(Exception):
    """A line that cannot be imported; so cannot its chat."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")


class ExportedChat(NamedTuple):
    """One chat of an export: what is sent, or why it is not."""

    id: str
    body: ImportChatBody | None
    errors: tuple[LineError, ...]
    lines: tuple[int, ...]
    """The line of each message."""
    replaced: int
    """Lines in which something that is no UTF-8 was replaced by U+FFFD."""


class _Open:
    def __init__(self, line: ChatLine) -> None:
        self.line = line
        self.rows: list[ImportMessageBody] = []
        self.messages: list[ImportedMessage] = []
        self.lines: list[int] = []
        self.errors: list[LineError] = []
        self.replaced = 0


def read_export(lines: Iterable[bytes], *, model: str | None = None) -> Iterator[ExportedChat]:
    """The chats of an export, one after the other; only one is in memory.

    Args:
        lines: As in the file.
        model: Answers in the imported chats, whatever the export says.

    Raises:
        LineError: A line belongs to no chat, so that nothing after it can be trusted.
    """
    chat: _Open | None = None
    for number, raw in enumerate(lines, start=1):
        text = raw.decode(errors="replace").removeprefix("\ufeff").strip()
        if not text:
            continue
        line = _parse(number, text, chat)
        if isinstance(line, ChatLine):
            if chat is not None:
                yield _close(chat, model)
            chat = _Open(line)
        elif chat is None:
            raise LineError(number, "a message before the first chat")
        elif isinstance(line, MessageLine):
            _add(chat, number, line)
        else:
            chat.errors.append(line)
        if "\ufffd" in text and not _is_utf8(raw):
            chat.replaced += 1
    if chat is not None:
        yield _close(chat, model)


def _parse(number: int, text: str, chat: _Open | None) -> Line | LineError:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        found = LineError(number, str(error))
        # Not even what begins a chat can be told: the rows that follow might be another's.
        if chat is None or '"chat"' in text[:200]:
            raise found from error
        return found


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _add(chat: _Open, number: int, line: MessageLine) -> None:
    if line.chat_id not in (None, chat.line.id):
        raise LineError(number, f"a message of {line.chat_id!r} among those of {chat.line.id!r}")
    try:
        if line.created_at is not None and line.created_at.tzinfo is None:
            raise msgspec.ValidationError("a time needs its offset from UTC - at `$.created_at`")
        parts = decode_parts(msgspec.json.encode(line.content), line.content_version)
    except (msgspec.DecodeError, UnicodeError) as error:
        chat.errors.append(LineError(number, str(error)))
        return
    chat.lines.append(number)
    chat.messages.append(ImportedMessage(line.role, parts, line.created_at, line.model))
    chat.rows.append(
        ImportMessageBody(
            line.role, line.content, line.content_version, line.created_at, line.model
        )
    )


def _close(chat: _Open, model: str | None) -> ExportedChat:
    errors = list(chat.errors)
    if not errors:
        try:
            whole(chat.messages)
        except NotAHistory as error:
            errors.append(LineError(chat.lines[error.index], str(error)))
    line = chat.line
    body = ImportChatBody(
        tuple(chat.rows),
        line.title[:200],
        line.system_prompt,
        model or line.model,
        f"import:{line.id}",
        line.created_at,
    )
    keep = body if chat.rows and not errors else None
    return ExportedChat(line.id, keep, tuple(errors), tuple(chat.lines), chat.replaced)
