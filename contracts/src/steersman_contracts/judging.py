"""What rules say about a call: plain decisions.

Conditions are CEL, and evaluated elsewhere: `values_of` and `conditions_of` say what is to be
asked, `judge` takes the answers.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from steersman_contracts.parts import JsonObject
from steersman_contracts.policies import STRICTNESS, Decision, LevelRules, Rule, RuleFacts


class Circumstances(NamedTuple):
    """What rules may look at beside the call itself."""

    chat_id: str
    steps: int = 0
    facts: RuleFacts = RuleFacts()


class Verdict(NamedTuple):
    """What is to be done with a call, and why."""

    decision: Decision
    reason: str = ""


def values_of(tool: str, arguments: JsonObject, circumstances: Circumstances) -> dict[str, Any]:
    """What conditions see of a call."""
    return {
        "tool": tool,
        "args": arguments,
        "chat": {
            "id": circumstances.chat_id,
            "steps": circumstances.steps,
            "cost_micros": circumstances.facts.cost_micros,
        },
        "workspace": msgspec.structs.asdict(circumstances.facts.workspace),
    }


def conditions_of(
    levels: Sequence[LevelRules], tool: str, arguments: JsonObject
) -> tuple[str, ...]:
    """The conditions on which a call depends, each once: those of rules whose patterns fit."""
    found = (
        rule.when
        for level in levels
        for rule in level.rules
        if rule.when and _patterns_fit(rule, tool, arguments)
    )
    return tuple(dict.fromkeys(found))


def judge(
    levels: Sequence[LevelRules],
    tool: str,
    arguments: JsonObject,
    *,
    holding: Mapping[str, bool],
    needs_approval: bool = False,
) -> Verdict:
    """Decide about one call.

    Args:
        levels: The rules of the deployment, the user and the chat, in any order.
        tool: Its name.
        arguments: As the model gave them.
        holding: Condition → whether it holds; one that cannot be evaluated is missing.
        needs_approval: What the tool says itself, where no rule fits.
    """
    verdicts: list[Verdict] = []
    for level in levels:
        for rule in level.rules:
            if fits(rule, tool, arguments, holding):
                verdicts.append(Verdict(rule.decision, rule.reason))
                break
    if not verdicts:
        return Verdict("ask" if needs_approval else "allow")
    return max(verdicts, key=lambda verdict: STRICTNESS[verdict.decision])


def fits(rule: Rule, tool: str, arguments: JsonObject, holding: Mapping[str, bool]) -> bool:
    """Whether a rule speaks of this call.

    A condition that cannot be evaluated (an argument that is not there, a wrong type) does not fit
    in a rule that allows, and fits in one that asks or refuses: an error never opens a door.
    """
    if not _patterns_fit(rule, tool, arguments):
        return False
    return not rule.when or holding.get(rule.when, rule.decision != "allow")


def _patterns_fit(rule: Rule, tool: str, arguments: JsonObject) -> bool:
    return fnmatch.fnmatchcase(tool, rule.tool) and all(
        name in arguments and fnmatch.fnmatchcase(_text(arguments[name]), pattern)
        for name, pattern in rule.arguments.items()
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
