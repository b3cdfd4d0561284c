"""Rules that say which tool calls run, which a person is asked about, and which are refused.

Rules of three levels (deployment, user, chat) are looked at one by one; the first rule of a level
that fits decides for its level, and the strictest level decides: deny, then ask, then allow. Where
no rule fits, the tool itself says whether a person is asked (`needs_approval`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from steersman_contracts.parts import JsonObject

Decision: TypeAlias = Literal["allow", "ask", "deny"]
Level: TypeAlias = Literal["system", "user", "chat"]
Scope: TypeAlias = Literal["once", "chat", "always"]
"""How far an approval reaches: this call, this tool in this chat, this tool in all my chats."""

STRICTNESS: Final[dict[Decision, int]] = {"allow": 0, "ask": 1, "deny": 2}

Glob = Annotated[str, msgspec.Meta(max_length=1000)]


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Fits a call when everything in it does."""

    decision: Decision
    tool: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "*"
    """A shell pattern of tool names: `*`, `?`, `[…]`."""
    arguments: dict[str, Glob] = {}
    """Argument name → a shell pattern of its value; what is no string is compared as JSON."""
    when: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    """A CEL expression over `tool`, `args`, `chat` (`id`, `steps`, `cost_micros`) and `workspace`
    (`id`, `name`, `template`, `driver`; each empty without one)."""
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """Shown to whoever is asked, and to the model when a call is refused."""


Rules: TypeAlias = Annotated[tuple[Rule, ...], msgspec.Meta(max_length=200)]


class LevelRules(msgspec.Struct, frozen=True):
    """The rules of one level."""

    level: Level
    rules: tuple[Rule, ...]


class WorkspaceFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """A workspace, as far as rules look at it; all of it is empty without one."""

    id: str = ""
    name: str = ""
    template: str = ""
    driver: str = ""


class RuleFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rules may look at of a chat that only the store knows."""

    cost_micros: int = 0
    """What the whole tree of the chat has cost so far, from its outermost chat on."""
    workspace: WorkspaceFacts = WorkspaceFacts()


class PendingApproval(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that waits for a person's decision."""

    call_id: str
    tool: str
    arguments: JsonObject
    reason: str = ""
