"""The system prompt: what a chat was told, and what the plugins say about their tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from steersman_contracts.rpc.tools import PluginPrompt

DEFAULT: Final = "You are a helpful assistant."


def system_text(chat_prompt: str, plugins: Sequence[PluginPrompt], agent: str = "") -> str:
    """Put the system prompt together, always in the same order, so that it stays the same prefix.

    Args:
        chat_prompt: The chat's own; empty takes the default.
        plugins: What the plugins whose tools are offered say, by plugin name.
        agent: What an agent is told about being one.
    """
    parts = [chat_prompt or DEFAULT, *(f"# {one.plugin}\n\n{one.text}" for one in plugins)]
    if agent:
        parts.append(agent)
    return "\n\n".join(parts)
