"""Calls about what models are told: prompts, instructions, skills."""

from __future__ import annotations

from steersman.client.exchange import Exchange
from steersman_contracts.ids import ChatId
from steersman_contracts.rest_prompts import InstructionsBody, PromptBody, SkillInput
from steersman_contracts.rpc.prompts import Prompt, PromptPreview, Skill, SkillEntry, SkillList


class PromptCalls:
    """Part of `Client`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def get_prompt(self) -> Prompt:
        """What every model of the deployment is told."""
        return await self._exchange.get("/prompt", Prompt)

    async def put_prompt(self, text: str) -> Prompt:
        """Change it. Admins only; empty takes the default back."""
        return await self._exchange.call(
            "PUT", "/prompt", Prompt, PromptBody(text), repeatable=True
        )

    async def get_instructions(self) -> Prompt:
        """What the models of all your chats are told."""
        return await self._exchange.get("/me/instructions", Prompt)

    async def put_instructions(self, body: InstructionsBody) -> Prompt:
        """Change it."""
        return await self._exchange.call("PUT", "/me/instructions", Prompt, body, repeatable=True)

    async def preview_prompt(self, chat_id: ChatId) -> PromptPreview:
        """What the model of a chat would be told now, section by section."""
        return await self._exchange.get(f"/chats/{chat_id}/prompt", PromptPreview)

    async def list_skills(self) -> tuple[SkillEntry, ...]:
        """The skills of the deployment, by name."""
        return (await self._exchange.get("/skills", SkillList)).skills

    async def get_skill(self, name: str) -> Skill:
        """One skill, whole."""
        return await self._exchange.get(f"/skills/{name}", Skill)

    async def put_skill(self, name: str, body: SkillInput) -> Skill:
        """Write a skill, in place of one of the same name. Admins only."""
        return await self._exchange.call("PUT", f"/skills/{name}", Skill, body, repeatable=True)

    async def delete_skill(self, name: str) -> None:
        """Remove a skill. Admins only."""
        await self._exchange.delete(f"/skills/{name}")
