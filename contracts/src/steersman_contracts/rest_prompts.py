"""Bodies of the REST API about what models are told."""

from __future__ import annotations

from typing import Annotated

import msgspec

from steersman_contracts.questions import MAX_ANSWER, Label
from steersman_contracts.rpc.prompts import (
    PromptText,
    SkillBody,
    SkillFiles,
    Threshold,
)
from steersman_contracts.rpc.steering import CallId, Comment
from steersman_contracts.terms import SkillDescription


class PromptBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every model is told; empty takes the default back."""

    text: PromptText


class InstructionsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the models of all your chats are told, and when they are summarised."""

    text: PromptText
    compaction_threshold: Threshold | None = None
    """Percent of the model's window in place of the model's own setting; 100 is never."""


class AnswerInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What you say to one question: options, words of your own, or both."""

    selected: Annotated[tuple[Label, ...], msgspec.Meta(max_length=4)] = ()
    """Labels of options."""
    text: Annotated[str, msgspec.Meta(max_length=MAX_ANSWER)] = ""


class AnswersBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Answers to the questions of one call, in their order."""

    answers: Annotated[tuple[AnswerInput, ...], msgspec.Meta(min_length=1, max_length=4)]
    call_id: CallId | None = None
    """Which call; may be left out when only one asks."""


class PlanDecisionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the model is told beside the decision."""

    comment: Comment = ""


class LimitsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All limits of the chat's turns; one that is left out is none."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Model calls."""
    tokens: Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None = None
    cost_micros: Annotated[int, msgspec.Meta(ge=1, le=10**15)] | None = None
    wall_s: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None


class SkillInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A skill of the deployment."""

    description: SkillDescription
    """What it is for: the model sees this, and reads the rest when it needs it."""
    text: SkillBody
    """Markdown."""
    files: SkillFiles = {}
    """Path below the skill → text."""
