"""Skills: instructions that a model reads when it needs them, from the workspace or the store."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_chatloop.chat_tools.arguments import read, said
from steersman_chatloop.chat_tools.base import ChatTool, Scene
from steersman_chatloop.decide import error_result
from steersman_chatloop.instructions import clean
from steersman_contracts.errors import NotFound
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc.prompts import LOOK_UP_SKILL, LookUpSkill, Skill
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import OwnedChat
from steersman_contracts.terms import MAX_SKILL_BYTES, SkillName
from steersman_contracts.tool_schema import input_schema

_FILE: Final = "SKILL.md"
_SHOWN_FILES: Final = 100

Name = Annotated[SkillName, msgspec.Meta(description="The name of the skill, as it is listed.")]


class ReadSkillArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `read_skill`."""

    name: Name


class ReadSkillFileArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `read_skill_file`."""

    name: Name
    path: Annotated[
        str,
        msgspec.Meta(
            min_length=1, max_length=1024, description="Below the skill, such as 'tables/a.csv'."
        ),
    ]


class SkillTool:
    """Reads the main file of a skill, or another one."""

    def __init__(self, spec: ToolSpec, arguments: type[msgspec.Struct]) -> None:
        self.spec = spec
        self._arguments = arguments

    def is_offered(self, chat: OwnedChat) -> bool:
        """Everywhere; a request leaves it out when there is no skill at all."""
        return True

    async def run(self, scene: Scene, call: ToolCallPart) -> ToolResultPart | None:
        """Read the file: one of the deployment hides one of the workspace."""
        wanted = read(call, self._arguments)
        match wanted:
            case ReadSkillArguments(name):
                path = _FILE
            case ReadSkillFileArguments(name, path):
                pass
            case ToolResultPart():
                return wanted
            case _:
                raise AssertionError(wanted)
        around, chat = scene.around, scene.chat
        if any(skill.name == name for skill in chat.terms.skills):
            request = LookUpSkill(chat.chat_id, around.runner_id, name)
            try:
                return _of_deployment(call, await around.rpc.call(LOOK_UP_SKILL, request), path)
            except NotFound:
                pass  # removed since this turn began
        found = await around.contexts.skill(chat.chat_id, name, path)
        if found.problem:
            return error_result(call, found.problem)
        return said(call, _shown(found.text, found.files, truncated=found.truncated))


def _of_deployment(call: ToolCallPart, skill: Skill, path: str) -> ToolResultPart:
    if path == _FILE:
        return said(call, _shown(skill.text, tuple(sorted(skill.files))))
    text = skill.files.get(path)
    if text is None:
        names = ", ".join(sorted(skill.files)[:_SHOWN_FILES]) or "none"
        return error_result(call, f"the skill {skill.name!r} has no file {path!r}; it has: {names}")
    return said(call, _shown(text, ()))


def _shown(text: str, files: tuple[str, ...], *, truncated: bool = False) -> str:
    whole = clean(text)
    content = whole.encode()[:MAX_SKILL_BYTES].decode(errors="ignore")
    if truncated or len(content) < len(whole):
        content += f"\n\n[cut: only the first {MAX_SKILL_BYTES} bytes are shown]"
    if files:
        listed = "\n".join(f"- {clean(file)}" for file in files[:_SHOWN_FILES])
        content += f"\n\nFiles of this skill, for `read_skill_file`:\n{listed}"
    return content


READ_SKILL: Final = SkillTool(
    ToolSpec(
        "read_skill",
        "Read a skill: how a certain kind of work is done here. Call it before such work.",
        input_schema(ReadSkillArguments),
        plugin="chat",
        idempotent=True,
        read_only=True,
    ),
    ReadSkillArguments,
)
READ_SKILL_FILE: Final = SkillTool(
    ToolSpec(
        "read_skill_file",
        "Read another file of a skill, one that the skill refers to.",
        input_schema(ReadSkillFileArguments),
        plugin="chat",
        idempotent=True,
        read_only=True,
    ),
    ReadSkillFileArguments,
)
SKILL_TOOLS: Final[tuple[ChatTool, ...]] = (READ_SKILL, READ_SKILL_FILE)
