"""Answers to questions of models: checked against what was asked before they are stored."""

from __future__ import annotations

from typing import Final

import msgspec

from steersman_contracts.chats import ClientTool
from steersman_contracts.errors import InvalidRequest, NotFound
from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.parts import JsonPart, Part, ToolCallPart
from steersman_contracts.questions import ASK, Answer, AskArguments, check_answers, result_of
from steersman_contracts.rpc import chats as rpc
from steersman_store.database import Database

_decode_calls: Final = msgspec.json.Decoder(tuple[Part, ...]).decode
_decode_tools: Final = msgspec.json.Decoder(tuple[ClientTool, ...]).decode


class Pending(msgspec.Struct, frozen=True):
    """What a chat waits for from its client."""

    version: int
    """The snapshot that this is of."""
    calls: tuple[ToolCallPart, ...]
    own: frozenset[str]
    """The names of the client's own tools: one of them may be called as ours."""

    def questions(self) -> dict[str, AskArguments]:
        """Call id → what is asked."""
        return {
            call.call_id: msgspec.convert(call.arguments, AskArguments)
            for call in self.calls
            if call.tool == ASK and ASK not in self.own
        }


async def pending_of(database: Database, user_id: UserId, chat_id: ChatId) -> Pending:
    """Look at what a chat waits for.

    Raises:
        NotFound: There is no such chat for this person.
    """
    row = await database.row(
        "SELECT c.snapshot_version, c.action_pending::text AS calls, c.client_tools::text AS tools "
        "FROM read_chat($1, $2) AS c",
        chat_id,
        user_id,
    )
    if row is None:
        raise NotFound("no such chat", chat_id=chat_id)
    parts = _decode_calls(row["calls"] or "[]")
    calls = tuple(part for part in parts if isinstance(part, ToolCallPart))
    own = frozenset(tool.name for tool in _decode_tools(row["tools"] or "[]"))
    return Pending(row["snapshot_version"], calls, own)


async def with_checked_answers(
    database: Database, request: rpc.SubmitToolResults
) -> rpc.SubmitToolResults:
    """Results of a client, those for questions in the form in which models get them.

    Raises:
        InvalidRequest: A result for a question does not answer it.
    """
    pending = await pending_of(database, request.actor.user_id, request.chat_id)
    questions = pending.questions()
    if not questions:
        return request
    results = tuple(
        result
        if (asked := questions.get(result.call_id)) is None
        else msgspec.structs.replace(
            result,
            content=(JsonPart(result_of(asked, _answers(asked, result, index))),),
            is_error=False,
        )
        for index, result in enumerate(request.results)
    )
    return msgspec.structs.replace(request, results=results)


def _answers(asked: AskArguments, result: rpc.ToolOutcome, index: int) -> tuple[Answer, ...]:
    where = f"results[{index}].json"
    content = result.content[0] if len(result.content) == 1 else None
    value = content.value if isinstance(content, JsonPart) else None
    if not isinstance(value, dict):
        raise InvalidRequest("a question is answered with an object `answers`", field=where)
    try:
        answers = msgspec.convert(value.get("answers"), tuple[Answer, ...])  # pyright: ignore[reportUnknownMemberType]  # JSON
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"these are no answers: {error}", field=where) from error
    try:
        check_answers(asked, answers)
    except InvalidRequest as error:
        raise InvalidRequest(str(error), field=f"{where}.{error.details['field']}") from error
    return answers
