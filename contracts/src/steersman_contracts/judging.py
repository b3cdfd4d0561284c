"""What rules say about a call: plain decisions, for whoever can evaluate a condition.

Conditions are CEL; how one is compiled is given, so that only services that judge need the library.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from steersman_contracts.parts import JsonObject
from steersman_contracts.policies import STRICTNESS, Decision, LevelRules, Rule, RuleFacts

Program: TypeAlias = Callable[[Mapping[str, Any]], object]
Compile: TypeAlias = Callable[[str], Program]
"""Compiles a condition; raises when it is none. Any error of a program means that it fails."""


class Circumstances(NamedTuple):
    """What rules may look at beside the call itself."""

    chat_id: str
    steps: int = 0
    facts: RuleFacts = RuleFacts()


class Verdict(NamedTuple):
    """What is to be done with a call, and why."""

    decision: Decision
    reason: str = ""


def judge(
    levels: Sequence[LevelRules],
    tool: str,
    arguments: JsonObject,
    *,
    compile_condition: Compile,
    circumstances: Circumstances,
    needs_approval: bool = False,
) -> Verdict:
    """Decide about one call.

    Args:
        levels: The rules of the deployment, the user and the chat, in any order.
        tool: Its name.
        arguments: As the model gave them.
        compile_condition: Compiles the conditions of rules.
        circumstances: What else rules may look at.
        needs_approval: What the tool says itself, where no rule fits.
    """
    verdicts: list[Verdict] = []
    for level in levels:
        for rule in level.rules:
            if fits(rule, tool, arguments, compile_condition, circumstances):
                verdicts.append(Verdict(rule.decision, rule.reason))
                break
    if not verdicts:
        return Verdict("ask" if needs_approval else "allow")
    return max(verdicts, key=lambda verdict: STRICTNESS[verdict.decision])


def fits(
    rule: Rule,
    tool: str,
    arguments: JsonObject,
    compile_condition: Compile,
    circumstances: Circumstances,
) -> bool:
    """Whether a rule speaks of this call.

    A condition that cannot be evaluated (an argument that is not there, a wrong type) does not fit
    in a rule that allows, and fits in one that asks or refuses: an error never opens a door.
    """
    if not fnmatch.fnmatchcase(tool, rule.tool):
        return False
    for name, pattern in rule.arguments.items():
        if name not in arguments or not fnmatch.fnmatchcase(_text(arguments[name]), pattern):
            return False
    if not rule.when:
        return True
    try:
        return bool(
            compile_condition(rule.when)(
                {
                    "tool": tool,
                    "args": arguments,
                    "chat": {
                        "id": circumstances.chat_id,
                        "steps": circumstances.steps,
                        "cost_micros": circumstances.facts.cost_micros,
                    },
                    "workspace": msgspec.structs.asdict(circumstances.facts.workspace),
                }
            )
        )
    except Exception:  # noqa: BLE001  # the library raises many kinds, and all mean the same here
        return rule.decision != "allow"


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
