"""Bodies of the REST API about what models are told."""

from __future__ import annotations

import msgspec

from steersman_contracts.rpc.prompts import (
    PromptText,
    SkillBody,
    SkillFiles,
    Threshold,
)
from steersman_contracts.terms import SkillDescription


class PromptBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every model is told; empty takes the default back."""

    text: PromptText


class InstructionsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the models of all your chats are told, and when they are summarised."""

    text: PromptText
    compaction_threshold: Threshold | None = None
    """Percent of the model's window in place of the model's own setting; 100 is never."""


class SkillInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A skill of the deployment."""

    description: SkillDescription
    """What it is for: the model sees this, and reads the rest when it needs it."""
    text: SkillBody
    """Markdown."""
    files: SkillFiles = {}
    """Path below the skill → text."""
