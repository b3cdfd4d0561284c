"""Asks the person: the chat waits until they have answered."""

from __future__ import annotations

from typing import Final

from steersman_chatloop.chat_tools.arguments import read
from steersman_chatloop.chat_tools.base import Scene
from steersman_chatloop.decide import error_result
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.questions import ASK, AskArguments, problem_of
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import OwnedChat
from steersman_contracts.tool_schema import input_schema


class AskUserQuestion:
    """The tool `ask_user_question`."""

    spec = ToolSpec(
        ASK,
        "Ask the person one to four questions, each with two to four answers to choose from, and "
        "wait. Use it when the answer decides what you do next and you cannot find it out "
        "yourself; do not ask for what was said already, or whether to go on.",
        input_schema(AskArguments),
        plugin="chat",
        idempotent=True,
        read_only=True,
    )

    def is_offered(self, chat: OwnedChat) -> bool:
        """In chats of people: agents are told that nobody answers them.

        Where else nobody is there to answer, a rule refuses it.
        """
        return chat.agent_kind is None

    async def run(self, scene: Scene, call: ToolCallPart) -> ToolResultPart | None:
        """Wait, unless the questions make no sense."""
        asked = read(call, AskArguments)
        if isinstance(asked, ToolResultPart):
            return asked
        problem = problem_of(asked)
        return None if problem is None else error_result(call, problem)


ASK_USER_QUESTION: Final = AskUserQuestion()
