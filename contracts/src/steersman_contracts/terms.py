"""On what terms a chat is worked on: what its model is told, what it may use, what is expected."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ChatId
from steersman_contracts.parts import JsonObject

MAX_PROMPT: Final = 10_000
"""Characters of a prompt that people write: the deployment's, a chat's, a person's own."""

SKILL_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)"
MAX_SKILLS: Final = 100
"""Skills that are listed before a model."""
MAX_SKILL_BYTES: Final = 64 * 1024
"""Bytes of one file of a skill that are shown."""

SkillName = Annotated[str, msgspec.Meta(pattern=SKILL_NAME_PATTERN)]
SkillDescription = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class SkillSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A skill as it is listed: what it is for. The model reads the rest when it needs it."""

    name: SkillName
    description: SkillDescription


class TurnLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one turn may use before it pauses for a person; None is no limit of the chat's own.

    The agents of a chat share its limits: what they use counts, and they pause as well.
    """

    steps: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Model calls."""
    tokens: Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None = None
    """Input and output of all steps together; cached input counts as well."""
    cost_micros: Annotated[int, msgspec.Meta(ge=1, le=10**15)] | None = None
    """Micro-units of the currency. Steps whose cost is not known are not counted."""
    wall_s: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None
    """Seconds since the message that began the turn, waiting for people included."""


LimitKind: TypeAlias = Literal["steps", "tokens", "cost_micros", "wall_s"]


class LimitReached(msgspec.Struct, frozen=True, omit_defaults=True):
    """A turn waits: a person raises the limit, or ends the turn."""

    kind: LimitKind
    limit: int
    used: int
    """Of the turn, with what its agents have used."""
    chat_id: ChatId | None = None
    """An agent waits at the limit of this chat above it; None is a limit of its own."""


PlanState: TypeAlias = Literal["proposed", "approved", "rejected"]


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest plan of a chat."""

    text: str
    """Markdown."""
    state: PlanState
    call_id: str
    proposed_at: datetime


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the store says about how a chat is to be worked on, beside its model and its tools."""

    deployment_prompt: str = ""
    instructions: str = ""
    """The owner's own, for all of their chats."""
    skills: tuple[SkillSummary, ...] = ()
    """Those of the deployment."""
    plan_mode: bool = False
    """Only tools that change nothing, until a person has approved a plan."""
    plan_above: bool = False
    """A chat above is in plan mode: only such tools as well, and no plan of one's own."""
    reached: LimitReached | None = None
    """The model is not called again until this limit is raised."""
    limited: bool = True
    """The chat has limits of its own: only the store knows when one is reached."""
    response_schema: JsonObject | None = None
    """JSON Schema of the final answer."""
    compaction_threshold: int | None = None
    """The owner's own, in place of the model's: percent of the window, 100 is never."""

    @property
    def looks_only(self) -> bool:
        """Whether only tools that change nothing may run."""
        return self.plan_mode or self.plan_above
