"""What models are told, over REST: prompts, skills, and a look at the whole."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from litestar import Controller, delete, get, put
from litestar.params import JSONBody, PathParameter

from steersman_contracts.rest_prompts import InstructionsBody, PromptBody, SkillInput
from steersman_contracts.rpc import prompts as rpc
from steersman_gateway.auth import CurrentActor, requires_admin
from steersman_gateway.backend import Services
from steersman_gateway.ids import ChatInPath
from steersman_gateway.problems import invalid

Q = TypeVar("Q", bound=msgspec.Struct)

SkillInPath = Annotated[str, PathParameter(description="The skill, such as `release-notes`.")]


class PromptController(Controller):
    """What every model is told, every model of one person, and the model of one chat."""

    tags = ("Prompts",)

    @get("/prompt", operation_id="getDeploymentPrompt", summary="What every model is told")
    async def deployment(self, actor: CurrentActor, backend: Services) -> rpc.Prompt:
        """Everybody may read it."""
        return await backend.call(rpc.GET_PROMPT, rpc.GetPrompt(actor, "system"))

    @put(
        "/prompt",
        operation_id="putDeploymentPrompt",
        summary="Change what every model is told",
        guards=[requires_admin],
    )
    async def put_deployment(
        self, data: JSONBody[PromptBody], actor: CurrentActor, backend: Services
    ) -> rpc.Prompt:
        """It stands before everything else, from the next step of every chat on. Admins only."""
        return await backend.call(rpc.PUT_PROMPT, rpc.PutPrompt(actor, "system", data.text))

    @get("/me/instructions", operation_id="getInstructions", summary="Your own instructions")
    async def instructions(self, actor: CurrentActor, backend: Services) -> rpc.Prompt:
        """What the models of all your chats are told."""
        return await backend.call(rpc.GET_PROMPT, rpc.GetPrompt(actor, "user"))

    @put(
        "/me/instructions",
        operation_id="putInstructions",
        summary="Change your own instructions",
    )
    async def put_instructions(
        self, data: JSONBody[InstructionsBody], actor: CurrentActor, backend: Services
    ) -> rpc.Prompt:
        """They apply to all of your chats from their next step on."""
        request = rpc.PutPrompt(actor, "user", data.text, data.compaction_threshold)
        return await backend.call(rpc.PUT_PROMPT, request)

    @get("/chats/{chat_id:str}/prompt", operation_id="previewPrompt", summary="Preview the prompt")
    async def preview(
        self, chat: ChatInPath, actor: CurrentActor, backend: Services
    ) -> rpc.PromptPreview:
        """The system prompt that the chat's model would get now, section by section."""
        return await backend.call(rpc.PREVIEW_PROMPT, rpc.PreviewPrompt(actor, chat))

    @get("/skills", operation_id="listSkills", summary="List the skills of the deployment")
    async def list_skills(self, actor: CurrentActor, backend: Services) -> rpc.SkillList:
        """Those that every chat has; a workspace may add its own in `.agents/skills`."""
        return await backend.call(rpc.LIST_SKILLS, rpc.ListSkills(actor))

    @get("/skills/{skill:str}", operation_id="getSkill", summary="Read a skill")
    async def get_skill(
        self, skill: SkillInPath, actor: CurrentActor, backend: Services
    ) -> rpc.Skill:
        """All of it, with its files."""
        return await backend.call(rpc.GET_SKILL, _checked(rpc.GetSkill(actor, skill)))

    @put(
        "/skills/{skill:str}",
        operation_id="putSkill",
        summary="Write a skill",
        guards=[requires_admin],
    )
    async def put_skill(
        self,
        skill: SkillInPath,
        data: JSONBody[SkillInput],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Skill:
        """Add a skill to every chat, or replace it. Admins only."""
        request = rpc.PutSkill(actor, skill, data.description, data.text, data.files)
        return await backend.call(rpc.PUT_SKILL, _checked(request))

    @delete(
        "/skills/{skill:str}",
        operation_id="deleteSkill",
        summary="Remove a skill",
        guards=[requires_admin],
    )
    async def delete_skill(
        self, skill: SkillInPath, actor: CurrentActor, backend: Services
    ) -> None:
        """Remove a skill of the deployment. Admins only."""
        await backend.call(rpc.DELETE_SKILL, _checked(rpc.DeleteSkill(actor, skill)))


def _checked(request: Q) -> Q:
    """The request, once the name in its address is known to be one of a skill."""
    try:
        return msgspec.convert(msgspec.to_builtins(request), type(request))
    except msgspec.ValidationError as error:
        raise invalid("skill", "lower-case letters, digits, - and _, at most 64") from error
