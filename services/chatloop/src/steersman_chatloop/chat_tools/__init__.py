"""Tools that act on the chat itself or on its children: run by the loop, which owns the chat."""

from __future__ import annotations

from typing import Final

from steersman_chatloop.chat_tools.agents import AGENT_TOOLS
from steersman_chatloop.chat_tools.base import ChatTool
from steersman_chatloop.chat_tools.plans import PROPOSE_PLAN
from steersman_chatloop.chat_tools.questions import ASK_USER_QUESTION
from steersman_chatloop.chat_tools.skills import SKILL_TOOLS

CHAT_TOOLS: Final[tuple[ChatTool, ...]] = (
    *SKILL_TOOLS,
    *AGENT_TOOLS,
    ASK_USER_QUESTION,
    PROPOSE_PLAN,
)
"""In the order in which they are offered; names are unique."""
