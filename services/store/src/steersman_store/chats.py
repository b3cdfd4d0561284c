"""What people do with chats: one call of a SQL function each, scoped by the actor."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping

import asyncpg
import msgspec
from msgspec import UNSET

from steersman_contracts import subjects
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import (
    FilePart,
    JsonObject,
    Parts,
    ResultContent,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    decode_parts,
    encode_parts,
    strip_internal,
)
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import chats as rpc
from steersman_contracts.terms import TurnLimits
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcement, Announcer, announce
from steersman_store.client_tools import check_client_tools
from steersman_store.database import Database, json_text
from steersman_store.families import Families
from steersman_store.files import check_known, described, file_ids
from steersman_store.questions import with_checked_answers
from steersman_store.response_schemas import check_response_schema
from steersman_store.titles import wants_title

_INTERRUPTED = "interrupted before it produced a result"
_TITLE_LENGTH = 60
_LABEL_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/-]{0,63}")


def new_chat_id() -> ChatId:
    """A UUID of version 7 (RFC 9562): ordered by time, so that new rows land side by side."""
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return ChatId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")


def title_of(parts: Parts) -> str:
    """The first words of a message: what a chat is called until somebody finds a better title."""
    texts = (part.text for part in parts if isinstance(part, TextPart))
    names = (part.name for part in parts if isinstance(part, FilePart))
    text = next(texts, "") or next(names, "")
    words = " ".join("".join(c if c.isprintable() else " " for c in text[:400]).split())
    if len(words) <= _TITLE_LENGTH:
        return words
    return words[:_TITLE_LENGTH].rsplit(" ", 1)[0].rstrip(",.;:") + "…"


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that are malformed or too many.

    Raises:
        InvalidRequest: Names the label and the bound.
    """
    if len(labels) > rpc.MAX_LABELS:
        raise InvalidRequest(f"a chat has at most {rpc.MAX_LABELS} labels", field="labels")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise InvalidRequest(
                f"{key!r} is not a label: 1 to 64 of letters, digits and . _ / -, "
                "beginning with a letter or digit",
                field=f"labels.{key}",
            )
        if len(value.encode()) > rpc.MAX_LABEL_BYTES:
            raise InvalidRequest(
                f"the value of {key!r} is over {rpc.MAX_LABEL_BYTES} bytes", field=f"labels.{key}"
            )


def unanswered(parts: Parts) -> str | None:
    """Results, as JSON, for the local calls of a step that nobody answers; None without any."""
    results = tuple(
        ToolResultPart(part.call_id, part.tool, (TextPart(_INTERRUPTED),), is_error=True)
        for part in parts
        if isinstance(part, ToolCallPart) and not part.provider_executed
    )
    return encode_parts(results).decode() if results else None


def _limits(limits: TurnLimits | None) -> str | None:
    return None if limits is None or limits == TurnLimits() else json_text(limits)


def _schema(schema: JsonObject | None) -> str | None:
    return None if schema is None else json_text(schema)


def _public(content: tuple[ResultContent, ...]) -> tuple[ResultContent, ...]:
    (result,) = strip_internal((ToolResultPart("", "", content),))
    return result.content if isinstance(result, ToolResultPart) else ()


class Chats:
    """The handlers of the group `chats`."""

    def __init__(self, database: Database, announcer: Announcer, families: Families) -> None:
        self._database = database
        self._announcer = announcer
        self._families = families

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.CREATE, self.create)
        server.add(rpc.GET, self.get)
        server.add(rpc.LIST, self.list)
        server.add(rpc.UPDATE, self.update)
        server.add(rpc.DELETE, self.delete)
        server.add(rpc.LIST_MESSAGES, self.list_messages)
        server.add(rpc.SEND_MESSAGE, self.send_message)
        server.add(rpc.INTERRUPT, self.interrupt)
        server.add(rpc.EDIT_MESSAGE, self.edit_message)
        server.add(rpc.EDIT_QUEUED, self.edit_queued)
        server.add(rpc.DELETE_QUEUED, self.delete_queued)
        server.add(rpc.PROMOTE_QUEUED, self.promote_queued)
        server.add(rpc.REORDER_QUEUE, self.reorder_queue)
        server.add(rpc.SUBMIT_TOOL_RESULTS, self.submit_tool_results)
        server.add(rpc.RESOLVE_APPROVAL, self.resolve_approval)
        server.add(rpc.ARCHIVE, self.archive)
        server.add(rpc.CLEAR_CONTEXT, self.clear_context)
        server.add(rpc.REQUEST_COMPACTION, self.request_compaction)
        server.add(rpc.UNDO_COMPACTION, self.undo_compaction)
        server.add(rpc.MARK_READ, self.mark_read)
        server.add(rpc.PIN, self.pin)
        server.add(rpc.LABEL, self.label)
        server.add(rpc.FORK, self.fork)
        server.add(rpc.SNAPSHOT, self.snapshot)

    async def create(self, request: rpc.CreateChat) -> msgspec.Raw:
        check_client_tools(request.client_tools)
        check_response_schema(request.response_schema)
        chat_id = new_chat_id()
        return await self._say(
            chat_id,
            request.actor,
            request.parts,
            lambda parts: (
                "SELECT * FROM create_chat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
                "$14, $15)",
                request.actor.user_id,
                chat_id,
                subjects.partition(chat_id),
                request.title or title_of(parts),
                request.system_prompt,
                request.model,
                encode_parts(parts).decode() if parts else None,
                request.client_key,
                json_text(request.client_tools),
                "person" if request.title else "auto",
                request.effort,
                request.mcp_server_ids,
                request.plan_mode,
                _limits(request.limits),
                None if not request.response_schema else json_text(request.response_schema),
            ),
        )

    async def send_message(self, request: rpc.SendMessage) -> msgspec.Raw:
        if not request.parts:
            raise InvalidRequest("a message needs at least one part", field="parts")
        check_response_schema(request.response_schema)
        reply = await self._say(
            request.chat_id,
            request.actor,
            request.parts,
            lambda parts: (
                "SELECT * FROM send_message($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                request.actor.user_id,
                request.chat_id,
                encode_parts(parts).decode(),
                title_of(parts),
                request.busy_behavior,
                request.model,
                request.client_key,
                rpc.MAX_QUEUED,
                request.effort,
                _schema(request.response_schema),
            ),
        )
        if request.busy_behavior == "interrupt":
            self._families.stopped(request.chat_id)
        return reply

    async def interrupt(self, request: rpc.Interrupt) -> msgspec.Raw:
        return await self._stopping(
            request.chat_id,
            "SELECT * FROM interrupt_chat($1, $2)",
            request.actor.user_id,
            request.chat_id,
        )

    async def edit_message(self, request: rpc.EditMessage) -> msgspec.Raw:
        if not request.parts:
            raise InvalidRequest("a message needs at least one part", field="parts")
        check_response_schema(request.response_schema)
        reply = await self._say(
            request.chat_id,
            request.actor,
            request.parts,
            lambda parts: (
                "SELECT * FROM edit_message($1, $2, $3, $4, $5, $6, $7)",
                request.actor.user_id,
                request.chat_id,
                request.message_id,
                encode_parts(parts).decode(),
                request.model,
                request.effort,
                _schema(request.response_schema),
            ),
        )
        self._families.stopped(request.chat_id)
        return reply

    async def edit_queued(self, request: rpc.EditQueued) -> msgspec.Raw:
        if not request.parts:
            raise InvalidRequest("a message needs at least one part", field="parts")
        keeps = request.response_schema is UNSET
        schema = None if request.response_schema is UNSET else request.response_schema
        check_response_schema(schema)
        return await self._say(
            request.chat_id,
            request.actor,
            request.parts,
            lambda parts: (
                "SELECT * FROM edit_queued($1, $2, $3, $4, $5, $6)",
                request.actor.user_id,
                request.chat_id,
                request.queued_id,
                encode_parts(parts).decode(),
                keeps,
                _schema(schema),
            ),
        )

    async def delete_queued(self, request: rpc.DeleteQueued) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM delete_queued($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.queued_id,
        )

    async def promote_queued(self, request: rpc.PromoteQueued) -> msgspec.Raw:
        return await self._stopping(
            request.chat_id,
            "SELECT * FROM promote_queued($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.queued_id,
        )

    async def reorder_queue(self, request: rpc.ReorderQueue) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM reorder_queue($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.queued_ids,
        )

    async def submit_tool_results(self, request: rpc.SubmitToolResults) -> msgspec.Raw:
        request = await with_checked_answers(self._database, request)
        return await self._transition(
            request.chat_id,
            "SELECT * FROM submit_tool_results($1, $2, $3, $4, $5)",
            request.actor.user_id,
            request.chat_id,
            [result.call_id for result in request.results],
            [json_text(_public(result.content)) for result in request.results],
            [result.is_error for result in request.results],
        )

    async def resolve_approval(self, request: rpc.ResolveApproval) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM resolve_approval($1, $2, $3, $4, $5, $6)",
            request.actor.user_id,
            request.chat_id,
            request.call_id,
            request.approved,
            request.reason,
            request.scope,
        )

    async def archive(self, request: rpc.ArchiveChat) -> msgspec.Raw:
        return await self._stopping(
            request.chat_id,
            "SELECT * FROM archive_chat($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.archived,
        )

    async def request_compaction(self, request: rpc.RequestCompaction) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM request_compaction($1, $2)",
            request.actor.user_id,
            request.chat_id,
        )

    async def undo_compaction(self, request: rpc.UndoCompaction) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM undo_compaction($1, $2)",
            request.actor.user_id,
            request.chat_id,
        )

    async def clear_context(self, request: rpc.ClearContext) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM clear_context($1, $2)",
            request.actor.user_id,
            request.chat_id,
        )

    async def mark_read(self, request: rpc.MarkRead) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM mark_read($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.message_id,
        )

    async def pin(self, request: rpc.PinChat) -> msgspec.Raw:
        return await self._transition(
            request.chat_id,
            "SELECT * FROM pin_chat($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.position,
        )

    async def label(self, request: rpc.LabelChat) -> msgspec.Raw:
        check_labels(request.labels)
        return await self._transition(
            request.chat_id,
            "SELECT * FROM label_chat($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            json_text(request.labels),
        )

    async def fork(self, request: rpc.ForkChat) -> msgspec.Raw:
        fork_id = new_chat_id()
        last = await self._database.row(
            "SELECT content, content_version FROM messages WHERE id = $1 AND chat_id = $2",
            request.message_id,
            request.chat_id,
        )
        return await self._transition(
            fork_id,
            "SELECT * FROM fork_chat($1, $2, $3, $4, $5, $6, $7)",
            request.actor.user_id,
            request.chat_id,
            request.message_id,
            fork_id,
            subjects.partition(fork_id),
            request.title,
            None if last is None else unanswered(decode_parts(*last)),
        )

    async def update(self, request: rpc.UpdateChat) -> msgspec.Raw:
        check_response_schema(request.response_schema)
        return await self._transition(
            request.chat_id,
            "SELECT * FROM update_chat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            request.actor.user_id,
            request.chat_id,
            request.title,
            request.model,
            request.system_prompt,
            None if request.effort is msgspec.UNSET else request.effort or "",
            request.mcp_server_ids is not UNSET,
            None if request.mcp_server_ids is UNSET else request.mcp_server_ids,
            request.plan_mode,
            _schema(request.response_schema),
        )

    async def delete(self, request: rpc.DeleteChat) -> msgspec.Raw:
        reply = await self._transition(
            request.chat_id,
            "SELECT * FROM delete_chat($1, $2)",
            request.actor.user_id,
            request.chat_id,
        )
        self._families.gone()
        return reply

    async def get(self, request: rpc.GetChat) -> msgspec.Raw:
        return await self._database.raw(
            "SELECT get_chat($1, $2)", request.actor.user_id, request.chat_id
        )

    async def list(self, request: rpc.ListChats) -> msgspec.Raw:
        before, before_id = request.before or (None, None)
        return await self._database.raw(
            "SELECT list_chats($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            request.actor.user_id,
            request.limit,
            before,
            before_id,
            request.archived,
            request.status,
            json_text(request.labels) if request.labels else None,
            request.words,
            request.pinned,
            request.parent_id,
        )

    async def list_messages(self, request: rpc.ListMessages) -> msgspec.Raw:
        positions = (request.before_id, request.after_id, request.after_revision)
        after = request.after_id is not None or request.after_revision is not None
        if request.before_id is not None and after:
            raise InvalidRequest(
                "before_id cannot be combined with after_id or after_revision", field="before_id"
            )
        return await self._database.raw(
            "SELECT list_messages($1, $2, $3, $4, $5, $6)",
            request.actor.user_id,
            request.chat_id,
            request.limit,
            *positions,
        )

    async def snapshot(self, request: rpc.Snapshot) -> msgspec.Raw:
        return await self._database.raw(
            "SELECT chat_snapshot($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            request.limit,
        )

    async def _say(
        self,
        chat_id: ChatId,
        actor: Actor,
        parts: Parts,
        statement: Callable[[Parts], tuple[str, *tuple[object, ...]]],
    ) -> msgspec.Raw:
        """A transition with a person's message; the chat refers to its files from then on."""
        # Nobody but a provider sets what is internal; people's messages have no second form.
        reply = await self._say_with_files(chat_id, actor, strip_internal(parts), statement)
        if (unnamed := wants_title(bytes(reply))) is not None:
            self._announcer.unnamed(unnamed)
        return reply

    async def _say_with_files(
        self,
        chat_id: ChatId,
        actor: Actor,
        parts: Parts,
        statement: Callable[[Parts], tuple[str, *tuple[object, ...]]],
    ) -> msgspec.Raw:
        wanted = file_ids(parts)
        if not wanted:
            return await self._transition(chat_id, *statement(parts))
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                "SELECT id::text, name, media_type FROM claim_files($1, $2)", actor.user_id, wanted
            )
            files = {row["id"]: (row["name"], row["media_type"]) for row in rows}
            check_known(parts, files)
            row = await connection.fetchrow(*statement(described(parts, files)))
            await connection.execute("SELECT attach_files($1, $2)", chat_id, wanted)
        return self._announce(chat_id, row)

    async def _stopping(self, chat_id: ChatId, query: str, *arguments: object) -> msgspec.Raw:
        """A transition that its agents share, and that may end what others wait for."""
        reply = await self._transition(chat_id, query, *arguments)
        self._families.stopped(chat_id)
        return reply

    async def _transition(self, chat_id: ChatId, query: str, *arguments: object) -> msgspec.Raw:
        return self._announce(chat_id, await self._database.row(query, *arguments))

    def _announce(self, chat_id: ChatId, row: asyncpg.Record | None) -> msgspec.Raw:
        assert row is not None  # a function call always has a row
        what = Announcement(bool(row["hint"]), row["runner_id"], row["control"], row["others"])
        announce(self._announcer, chat_id, what)
        reply: str = row["reply"]
        if what.hint:
            self._families.begun(chat_id, reply)
        return msgspec.Raw(reply.encode())
