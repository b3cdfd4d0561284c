"""What a turn offers its model: the tools, and the prompt that goes with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from steersman_chatloop.agent_kinds import capabilities_of
from steersman_chatloop.chat_tools import CHAT_TOOLS
from steersman_chatloop.chat_tools.base import ChatTool
from steersman_chatloop.chat_tools.skills import SKILL_TOOLS
from steersman_chatloop.instructions import Ingredients, sections, skills_of
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.rpc.context import WorkspaceContext
from steersman_contracts.rpc.prompts import PromptSection
from steersman_contracts.rpc.tools import PluginPrompt, ToolSpec
from steersman_contracts.rpc.worker import OwnedChat

NOT_IN_PLAN_MODE: Final = (
    "not run: this chat is in plan mode, where only tools that change nothing work; when you know "
    "what should be done, call propose_plan"
)
NOT_BELOW_A_PLAN: Final = (
    "not run: whoever gave you this task is planning now, so that only tools that change nothing "
    "work; look around with those, or report what you have and what is left to do"
)
_OF_SKILLS: Final = frozenset(tool.spec.name for tool in SKILL_TOOLS)


class Offer(msgspec.Struct, frozen=True):
    """Gathered once a turn, and the same for the whole of it."""

    tools: tuple[ToolSpec, ...] = ()
    workspace: WorkspaceContext = WorkspaceContext()
    plugins: tuple[PluginPrompt, ...] = ()

    def prompt(self, chat: OwnedChat) -> tuple[PromptSection, ...]:
        """The system prompt of the chat, section by section."""
        return sections(
            Ingredients(
                chat_prompt=chat.system_prompt,
                terms=chat.terms,
                tools=frozenset(tool.name for tool in self.tools),
                needs_workspace=any(tool.needs_workspace for tool in self.tools),
                workspace=self.workspace,
                plugins=self.plugins,
                subagents=capabilities_of(chat).prompt,
            )
        )


def chat_tools_of(chat: OwnedChat) -> tuple[ChatTool, ...]:
    """The loop's own tools that a chat has; a client's tool hides one of the same name."""
    hidden = {tool.name for tool in chat.client_tools}
    allows = capabilities_of(chat).allows
    return tuple(
        tool
        for tool in CHAT_TOOLS
        if tool.spec.name not in hidden and allows(tool.spec) and tool.is_offered(chat)
    )


async def gather(around: Surroundings, chat: OwnedChat) -> Offer:
    """Ask around what there is for a chat; what cannot be asked is as if it were not there."""
    if not chat.model.tools:
        return Offer()
    tools = _tools(chat, await around.toolbox.known_to(chat))
    workspace = WorkspaceContext()
    if any(tool.needs_workspace for tool in tools):
        workspace = await around.contexts.read(chat.chat_id, goes_on=chat.steps > 0)
    if not skills_of(chat.terms, workspace):
        tools = tuple(t for t in tools if t.plugin != "chat" or t.name not in _OF_SKILLS)
    return Offer(tools, workspace, around.toolbox.prompts if tools else ())


def _tools(chat: OwnedChat, catalog: Iterable[ToolSpec]) -> tuple[ToolSpec, ...]:
    return harmless(chat, catalog) if chat.terms.looks_only else _all_tools(chat, catalog)


def harmless(chat: OwnedChat, catalog: Iterable[ToolSpec]) -> tuple[ToolSpec, ...]:
    """The tools of a chat that change nothing, as they say themselves; a client's never say so."""
    return tuple(tool for tool in _all_tools(chat, catalog) if tool.read_only)


def _all_tools(chat: OwnedChat, catalog: Iterable[ToolSpec]) -> tuple[ToolSpec, ...]:
    """The server's tools, the loop's own, the client's; a later one hides an earlier one."""
    client = tuple(
        ToolSpec(tool.name, tool.description, tool.input_schema, plugin="client")
        for tool in chat.client_tools
    )
    own = tuple(tool.spec for tool in chat_tools_of(chat))
    hidden = {tool.name for tool in (*own, *client)}
    allows = capabilities_of(chat).allows
    of_server = (tool for tool in catalog if tool.name not in hidden and allows(tool))
    return (*of_server, *own, *client)
