"""What was used and what it cost."""

from __future__ import annotations

import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ChatId, UserId
from steersman_contracts.rpc import Actor, Method

GroupBy: TypeAlias = Literal["day", "model", "user", "chat"]
MAX_ROWS: Final = 1000


class GetUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sums over the actor's own chats; over everybody's for an admin."""

    actor: Actor
    group_by: GroupBy = "day"
    first_day: datetime.date | None = None
    """UTC; None for the beginning."""
    last_day: datetime.date | None = None
    """UTC, inclusive; None for today."""
    chat_id: ChatId | None = None
    """Only this chat and its subagents."""
    user_id: UserId | None = None
    """Only this person's chats."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = 100


class UsageSum(msgspec.Struct, frozen=True, omit_defaults=True):
    """Steps, their tokens and their cost."""

    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of the output."""
    cache_read_tokens: int = 0
    """Part of the input, as `cache_write_tokens`."""
    cache_write_tokens: int = 0
    cost_micros: int = 0
    """Micro-units of the currency, over the steps whose cost is known."""
    cost_unknown_steps: int = 0
    """Steps, and attempts of which nothing was stored, whose cost is not known."""


class UsageRow(UsageSum, frozen=True, omit_defaults=True, kw_only=True):
    """The sum of one group."""

    key: str
    """The day, the model, or the id of the user or the chat."""
    label: str = ""
    """The name of the user."""


class UsageReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Days come in order, everything else the dearest first."""

    group_by: GroupBy
    total: UsageSum
    """Over all rows, also those that are not shown."""
    rows: tuple[UsageRow, ...]
    has_more: bool = False
    """There are more rows than were asked for."""


GET_USAGE: Final = Method("store", "models.usage", GetUsage, UsageReport, safe=True)
