"""What a step asks the model: the tools that a turn offers, the system prompt, the messages."""

from __future__ import annotations

from collections.abc import Sequence

from steersman_chatloop.agent_kinds import capabilities_of
from steersman_chatloop.attachments import with_bytes
from steersman_chatloop.claim import Claim
from steersman_chatloop.instructions import system_text
from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.step_calls import chat_tools_of
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.chats import Message
from steersman_contracts.computer_history import without_old_screenshots
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess


class Requests:
    """The requests of one claim on a chat. Tools stay the same within a turn."""

    def __init__(self, around: Surroundings, claim: Claim) -> None:
        self._around = around
        self._claim = claim
        self._tools: tuple[ToolSpec, ...] | None = None
        self._tools_of = 0
        """The turn that `_tools` are for."""

    async def step(self, model: ModelAccess, messages: Sequence[Message]) -> StepRequest:
        """The request for the next step.

        Args:
            model: Who is asked.
            messages: What of the history the model may see.
        """
        chat = self._claim.chat
        if self._tools is None or self._tools_of != self._claim.turns_ended:
            self._tools_of = self._claim.turns_ended
            self._tools = await self._offered() if model.tools else ()
        prompts = self._around.toolbox.prompts if self._tools else ()
        return StepRequest(
            chat_id=chat.chat_id,
            model=model,
            system=system_text(chat.system_prompt, prompts, capabilities_of(chat).prompt),
            messages=await self._filled(messages),
            tools=self._tools,
            effort=chat.effort,
        )

    async def _filled(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages as a provider gets them, with the bytes of their files."""
        fetch = self._around.files.of(self._claim.chat.chat_id, self._around.runner_id)
        prepared, plain = self._claim.history.preparation.prepare(messages)
        newest = without_old_screenshots(prepared[plain:])
        return (*prepared[:plain], *await with_bytes(newest, fetch))

    async def _offered(self) -> tuple[ToolSpec, ...]:
        """The server's tools, the loop's own, the client's; a later one hides an earlier one."""
        chat = self._claim.chat
        client = tuple(
            ToolSpec(tool.name, tool.description, tool.input_schema, plugin="client")
            for tool in chat.client_tools
        )
        own = tuple(tool.spec for tool in chat_tools_of(chat))
        hidden = {tool.name for tool in (*own, *client)}
        allows = capabilities_of(chat).allows
        catalog = [tool for tool in await self._around.toolbox.known_to(chat) if allows(tool)]
        return (*(tool for tool in catalog if tool.name not in hidden), *own, *client)
