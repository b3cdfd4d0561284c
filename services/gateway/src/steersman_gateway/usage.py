"""What was used and what it cost, over REST."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from steersman_contracts.ids import UserId
from steersman_contracts.rpc import usage as rpc
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services
from steersman_gateway.ids import known_chat_id
from steersman_gateway.problems import invalid

GroupBy = Annotated[rpc.GroupBy, QueryParameter(description="What makes a row.")]
FirstDay = Annotated[
    str | None, QueryParameter(name="from", description="The first day, as 2026-11-01, in UTC.")
]
LastDay = Annotated[str | None, QueryParameter(name="to", description="The last day, inclusive.")]
OfChat = Annotated[
    str | None, QueryParameter(description="Only this chat and its subagents, as one tree.")
]
OfUser = Annotated[str | None, QueryParameter(description="Only the chats of this user.")]
Limit = Annotated[int, QueryParameter(ge=1, le=rpc.MAX_ROWS, description="Rows in the answer.")]


@get("/usage", operation_id="getUsage", summary="Usage and costs", tags=["Usage"])
async def usage(
    actor: CurrentActor,
    backend: Services,
    group_by: GroupBy = "day",
    first_day: FirstDay = None,
    last_day: LastDay = None,
    chat_id: OfChat = None,
    user_id: OfUser = None,
    limit: Limit = 100,
) -> rpc.UsageReport:
    """Tokens and costs of your own chats, of everybody's for an admin.

    Costs are in micro-units; steps whose cost is not known are counted apart and not in the sum.
    """
    request = rpc.GetUsage(
        actor,
        group_by,
        _day("from", first_day),
        _day("to", last_day),
        None if chat_id is None else known_chat_id(chat_id),
        None if user_id is None else UserId(known_chat_id(user_id)),
        limit,
    )
    return await backend.call(rpc.GET_USAGE, request)


def _day(field: str, text: str | None) -> date | None:
    # Not by Litestar: it would name the argument of the handler, which cannot be called `from`.
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise invalid(field, f"{text!r} is no day such as 2026-11-01") from None
