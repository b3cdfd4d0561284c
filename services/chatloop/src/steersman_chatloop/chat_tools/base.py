"""What a tool of the chat is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import AgentWait, OwnedChat


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a call happens."""

    around: Surroundings
    chat: OwnedChat
    """As it was when the calls of the step began to run."""
    message_id: int
    """The message that holds the call: with the call's id it names the call for ever."""


class ChatTool(Protocol):
    """A tool that the loop runs itself."""

    @property
    def spec(self) -> ToolSpec:
        """As the model sees it; `plugin` says `chat`."""
        ...

    def is_offered(self, chat: OwnedChat) -> bool:
        """Whether a chat has it; the same for the whole of a turn."""
        ...

    async def run(self, scene: Scene, call: ToolCallPart) -> ToolResultPart | AgentWait | None:
        """Run a call whose arguments are a JSON object.

        A worker may die at any point of it, and the next one calls it again: whatever it does must
        be done once for a (chat, message, call).

        Returns:
            The result; None when it comes later, and the chat rests until then; or for which
            agents it waits.

        Raises:
            SteersmanError: The call could not be made; it becomes an error result.
        """
        ...
