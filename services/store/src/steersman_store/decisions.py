"""What people decide while a chat waits for them: answers, plans, limits."""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_contracts.errors import Conflict, InvalidRequest, NotFound
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import JsonPart, TextPart, encode_parts, strip_internal
from steersman_contracts.questions import check_answers, result_of
from steersman_contracts.rpc import steering as rpc
from steersman_contracts.rpc.chats import MAX_QUEUED
from steersman_contracts.terms import TurnLimits
from steersman_runtime.rpc import RpcServer
from steersman_store.announce import Announcement, Announcer, announce
from steersman_store.database import Database, json_text
from steersman_store.families import Families
from steersman_store.questions import pending_of

_TRIES: Final = 5
_APPROVED: Final = "The plan is approved. Carry it out."
_REJECTED: Final = "The plan is not approved. Change it and propose it again."


class Decisions:
    """Handlers of the group `chats` that are about waiting turns."""

    def __init__(self, database: Database, announcer: Announcer, families: Families) -> None:
        self._database = database
        self._announcer = announcer
        self._families = families

    def serve(self, server: RpcServer) -> None:
        """Answer these methods."""
        server.add(rpc.ANSWER_QUESTION, self.answer_question)
        server.add(rpc.DECIDE_PLAN, self.decide_plan)
        server.add(rpc.SET_LIMITS, self.set_limits)

    async def answer_question(self, request: rpc.AnswerQuestion) -> msgspec.Raw:
        for left in reversed(range(_TRIES)):
            try:
                return await self._answer(request)
            except Conflict:  # another call of the same step was answered at the same time
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _answer(self, request: rpc.AnswerQuestion) -> msgspec.Raw:
        pending = await pending_of(self._database, request.actor.user_id, request.chat_id)
        questions = pending.questions()
        call_id = request.call_id or (next(iter(questions)) if len(questions) == 1 else None)
        if call_id is None and questions:
            raise InvalidRequest("several calls ask: which one?", field="call_id")
        if call_id is None or call_id not in questions:
            raise NotFound("no such question is pending", call_id=call_id)
        asked = questions[call_id]
        check_answers(asked, request.answers)
        rest = tuple(call for call in pending.calls if call.call_id != call_id)
        return await self._transition(
            request.chat_id,
            "SELECT * FROM answer_question($1, $2, $3, $4, $5, $6)",
            request.actor.user_id,
            request.chat_id,
            call_id,
            json_text((JsonPart(result_of(asked, request.answers)),)),
            encode_parts(strip_internal(rest)).decode(),
            pending.version,
        )

    async def decide_plan(self, request: rpc.DecidePlan) -> msgspec.Raw:
        comment = request.comment.strip()
        says = _APPROVED if request.approved else _REJECTED
        text = f"{says}\n\n{comment}" if comment else says
        tells = request.approved or bool(comment)
        if tells and (plan := await self._cleared_plan(request)):
            text += f"\n\nThe plan:\n\n{plan}"
        return await self._transition(
            request.chat_id,
            "SELECT * FROM decide_plan($1, $2, $3, $4, $5, $6)",
            request.actor.user_id,
            request.chat_id,
            request.approved,
            comment.replace("\0", "\ufffd"),
            encode_parts((TextPart(text),)).decode() if tells else None,
            MAX_QUEUED,
        )

    async def _cleared_plan(self, request: rpc.DecidePlan) -> str | None:
        """The plan, if the context was cleared since: the model does not see it any more."""
        return await self._database.value(
            "SELECT c.plan ->> 'text' FROM chats c WHERE c.id = $2 AND may_use(c, $1) AND EXISTS ("
            "SELECT 1 FROM messages m WHERE m.chat_id = c.id AND m.deleted_at IS NULL "
            "AND m.boundary = 'clear' "
            "AND m.id > substring(c.plan ->> 'call_id' FROM '^(\\d{1,18}):')::bigint)",
            request.actor.user_id,
            request.chat_id,
        )

    async def set_limits(self, request: rpc.SetLimits) -> msgspec.Raw:
        none = request.limits == TurnLimits()
        reply = await self._transition(
            request.chat_id,
            "SELECT * FROM set_limits($1, $2, $3)",
            request.actor.user_id,
            request.chat_id,
            None if none else json_text(request.limits),
        )
        self._families.limited_anew(request.chat_id)
        return reply

    async def _transition(self, chat_id: ChatId, query: str, *arguments: object) -> msgspec.Raw:
        row = await self._database.row(query, *arguments)
        assert row is not None  # a function call always has a row
        what = Announcement(bool(row["hint"]), row["runner_id"], row["control"])
        announce(self._announcer, chat_id, what)
        reply: str = row["reply"]
        if what.hint:
            self._families.begun(chat_id, reply)
        return msgspec.Raw(reply.encode())
