"""Which tool calls run, which a person is asked about, and which are refused: plain decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from steersman_chatloop.decide import error_result
from steersman_contracts.computer_use import question_of
from steersman_contracts.judging import judge
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.policies import LevelRules, PendingApproval


class SortedCalls(NamedTuple):
    """The calls of a step, by what is to be done with them."""

    allowed: tuple[ToolCallPart, ...]
    asked: tuple[PendingApproval, ...]
    refused: tuple[ToolResultPart, ...]


def sort_out(
    calls: Sequence[ToolCallPart],
    *,
    levels: Sequence[LevelRules],
    needing_approval: frozenset[str],
    granted: frozenset[str],
    approved: frozenset[str],
    holding: Mapping[str, Mapping[str, bool]],
) -> SortedCalls:
    """Decide about the calls of one step.

    Args:
        calls: Local calls without a result.
        levels: The rules.
        needing_approval: Tools that say so themselves.
        granted: Tools that a person has allowed beyond one call; does not help against a refusal.
        approved: Ids of calls that a person has allowed.
        holding: Id of a call → what `judge` is told about the conditions of its rules.
    """
    allowed: list[ToolCallPart] = []
    asked: list[PendingApproval] = []
    refused: list[ToolResultPart] = []
    for call in calls:
        verdict = judge(
            levels,
            call.tool,
            call.arguments,
            holding=holding.get(call.call_id, {}),
            needs_approval=call.tool in needing_approval,
        )
        question = question_of(call.tool, call.arguments)
        if question is not None and call.call_id not in approved and verdict.decision != "deny":
            # The model itself, or its provider, wants a person to decide about this very call:
            # no rule and no earlier consent does that for them.
            asked.append(PendingApproval(call.call_id, call.tool, call.arguments, question))
        elif verdict.decision == "deny":
            words = f"this call is not allowed: {verdict.reason or 'a rule refuses it'}"
            refused.append(error_result(call, words))
        elif (
            verdict.decision == "allow"
            or call.tool in granted
            or call.call_id in approved
            or call.invalid is not None  # it will not run anyway
        ):
            allowed.append(call)
        else:
            asked.append(PendingApproval(call.call_id, call.tool, call.arguments, verdict.reason))
    return SortedCalls(tuple(allowed), tuple(asked), tuple(refused))
