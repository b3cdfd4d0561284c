"""Shows a person what the model of a chat would be told, by the same path as a turn."""

from __future__ import annotations

from steersman_chatloop.instructions import system_text
from steersman_chatloop.offers import gather
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.rpc.prompts import (
    LOOK_AT_CHAT,
    LookAtChat,
    PreviewPrompt,
    PromptPreview,
)


class Previews:
    """The handler of the group `prompts`."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def preview(self, request: PreviewPrompt) -> PromptPreview:
        """Put the prompt together; the store says whether the actor may see the chat."""
        wanted = LookAtChat(request.actor, request.chat_id)
        chat = (await self._around.rpc.call(LOOK_AT_CHAT, wanted)).chat
        offer = await gather(self._around, chat)
        sections = offer.prompt(chat)
        names = tuple(tool.name for tool in offer.tools)
        return PromptPreview(sections, system_text(sections), names)
