"""Tools that act on the chat itself or on its children: run by the loop, which owns the chat."""

from __future__ import annotations

from typing import Final

from steersman_chatloop.chat_tools.agents import AGENT_TOOLS
from steersman_chatloop.chat_tools.base import ChatTool

CHAT_TOOLS: Final[tuple[ChatTool, ...]] = (*AGENT_TOOLS,)
"""In the order in which they are offered; names are unique."""
