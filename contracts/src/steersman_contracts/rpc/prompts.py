"""The texts that people put before models, the skills of the deployment, and previews."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import ChatId, RunnerId
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.worker import OwnedChat
from steersman_contracts.terms import MAX_PROMPT, SkillDescription, SkillName

PromptLevel: TypeAlias = Literal["system", "user"]
PromptText = Annotated[str, msgspec.Meta(max_length=MAX_PROMPT)]
Threshold = Annotated[int, msgspec.Meta(ge=1, le=100)]

MAX_SKILL_FILES: Final = 50
SkillBody = Annotated[str, msgspec.Meta(min_length=1, max_length=64_000)]
SkillFile = Annotated[str, msgspec.Meta(max_length=64_000)]
SkillFiles = Annotated[dict[str, SkillFile], msgspec.Meta(max_length=MAX_SKILL_FILES)]


class GetPrompt(msgspec.Struct, frozen=True):
    """The prompt of the deployment, or the actor's own instructions."""

    actor: Actor
    level: PromptLevel


class PutPrompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """Replace it; that of the deployment is for admins. Empty takes the default back."""

    actor: Actor
    level: PromptLevel
    text: PromptText
    compaction_threshold: Threshold | None = None
    """Of the level `user`: when the actor's chats are summarised; None is as the model says."""


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every model is told, or every model of one person."""

    text: str = ""
    compaction_threshold: int | None = None
    """Percent of the model's window; absent is as the model says."""


class ListSkills(msgspec.Struct, frozen=True):
    """The skills of the deployment."""

    actor: Actor


class GetSkill(msgspec.Struct, frozen=True):
    """One of them, whole."""

    actor: Actor
    name: SkillName


class PutSkill(msgspec.Struct, frozen=True, omit_defaults=True):
    """Write one, in place of one of the same name. Admins only."""

    actor: Actor
    name: SkillName
    description: SkillDescription
    text: SkillBody
    files: SkillFiles = {}
    """Path below the skill → text."""


class DeleteSkill(msgspec.Struct, frozen=True):
    """Remove one. Admins only."""

    actor: Actor
    name: SkillName


class Skill(msgspec.Struct, frozen=True, omit_defaults=True):
    """A skill of the deployment: offered in every chat."""

    name: SkillName
    description: SkillDescription
    text: str
    """Markdown, without the front matter."""
    updated_at: datetime
    files: dict[str, str] = {}


class SkillEntry(msgspec.Struct, frozen=True):
    """A skill in the list."""

    name: SkillName
    description: str
    updated_at: datetime


class SkillList(msgspec.Struct, frozen=True):
    """By name."""

    skills: tuple[SkillEntry, ...]


class LookUpSkill(msgspec.Struct, frozen=True):
    """A skill of the deployment, for who works on a chat."""

    chat_id: ChatId
    runner_id: RunnerId
    name: SkillName


class LookAtChat(msgspec.Struct, frozen=True):
    """A chat as its worker would get it, without owning it: to show what would be sent."""

    actor: Actor
    chat_id: ChatId


class PreviewPrompt(msgspec.Struct, frozen=True):
    """What the model of a chat would be told now."""

    actor: Actor
    chat_id: ChatId


SectionName: TypeAlias = Literal[
    "deployment",
    "chat",
    "user",
    "workspace",
    "files",
    "skills",
    "plugins",
    "subagents",
    "plan",
    "answer",
]


class PromptSection(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece of a system prompt, in its place."""

    name: SectionName
    text: str
    source: str = ""
    """Of which file, or which plugin."""


class PromptPreview(msgspec.Struct, frozen=True):
    """The system prompt of a chat, section by section."""

    sections: tuple[PromptSection, ...]
    text: str
    """All of it, as the model gets it."""
    tools: tuple[str, ...]
    """The names of the tools that are offered, in that order."""


class LookedAt(msgspec.Struct, frozen=True):
    """Holds the key of the model: for chatloop alone."""

    chat: OwnedChat


GET_PROMPT: Final = Method("store", "prompts.get", GetPrompt, Prompt, safe=True)
PUT_PROMPT: Final = Method("store", "prompts.put", PutPrompt, Prompt, safe=True)
LIST_SKILLS: Final = Method("store", "prompts.list_skills", ListSkills, SkillList, safe=True)
GET_SKILL: Final = Method("store", "prompts.get_skill", GetSkill, Skill, safe=True)
PUT_SKILL: Final = Method("store", "prompts.put_skill", PutSkill, Skill, safe=True)
DELETE_SKILL: Final = Method("store", "prompts.delete_skill", DeleteSkill, Nothing)
LOOK_UP_SKILL: Final = Method("store", "worker.skill", LookUpSkill, Skill, safe=True)
LOOK_AT_CHAT: Final = Method("store", "worker.look_at", LookAtChat, LookedAt, safe=True)
PREVIEW_PROMPT: Final = Method(
    "chatloop", "prompts.preview", PreviewPrompt, PromptPreview, deadline_s=15, safe=True
)
