"""What the workspace of a chat says to its model: asked of the tools service, which has the files.

Everything in a workspace may have been written by somebody else: texts are bounded here, and it is
the caller who labels and cleans them.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Method
from steersman_contracts.terms import SkillName, SkillSummary

INSTRUCTION_FILE: Final = "AGENTS.md"
MAX_FILE_BYTES: Final = 64 * 1024
"""Bytes of one instruction file that are read."""


class InstructionFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What people want every model to know that works in this directory."""

    path: str
    """Below the workspace."""
    text: str
    size: int
    """Bytes of the whole file."""
    truncated: bool = False


class ReadContext(msgspec.Struct, frozen=True):
    """Read the instruction files and the list of skills of a chat's workspace."""

    chat_id: ChatId


class WorkspaceContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was found; nothing, for a workspace that does not exist yet."""

    attached: bool = False
    """There is a workspace already."""
    files: tuple[InstructionFile, ...] = ()
    """The home of the workspace first, then the working directory."""
    skills: tuple[SkillSummary, ...] = ()
    """By name."""


class ReadSkill(msgspec.Struct, frozen=True, omit_defaults=True):
    """Read a file of a skill."""

    chat_id: ChatId
    name: SkillName
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)] = "SKILL.md"
    """Below the directory of the skill."""


class SkillText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of a skill; `problem` says in words why it cannot be shown."""

    text: str = ""
    truncated: bool = False
    files: tuple[str, ...] = ()
    """What else belongs to the skill, when its `SKILL.md` was asked for."""
    problem: str = ""


READ_CONTEXT: Final = Method(
    "tools", "context.read", ReadContext, WorkspaceContext, deadline_s=5, safe=True
)
READ_SKILL: Final = Method("tools", "context.skill", ReadSkill, SkillText, deadline_s=5, safe=True)
