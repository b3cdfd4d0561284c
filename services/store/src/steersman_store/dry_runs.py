"""What a draft of rules would have done to the calls that a chat has made. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Final, NamedTuple

import msgspec

from steersman_contracts.ids import MessageId
from steersman_contracts.judging import Circumstances, conditions_of, judge, values_of
from steersman_contracts.parts import JsonObject, Part, ToolCallPart
from steersman_contracts.policies import Level, LevelRules, Rule, RuleFacts, WorkspaceFacts
from steersman_contracts.rpc.policies import DryRunReport, JudgedCall, Outcome
from steersman_runtime.conditions import Question

MOST_MESSAGES: Final = 2_000
"""The newest of a chat."""
MOST_CALLS: Final = 200
"""The newest among them."""
_SHOWN: Final = 500
_NO_WORKSPACE: Final = WorkspaceFacts()


class Said(NamedTuple):
    """A message, as far as this looks at it."""

    id: MessageId
    role: str
    parts: Sequence[Part]
    cost_micros: int = 0


def with_draft(
    levels: Sequence[LevelRules],
    level: Level,
    rules: Sequence[Rule],
    *,
    own: Sequence[Rule] | None = None,
) -> tuple[LevelRules, ...]:
    """The rules of all levels, those of one exchanged for the draft.

    Args:
        levels: The rules as they are; those of the chats above an agent are of the level `chat`.
        level: Which is exchanged.
        rules: The draft.
        own: The rules of the chat itself: of the level `chat` these alone make room.
    """
    others = list(levels)
    if level != "chat":
        others = [one for one in levels if one.level != level]
    elif own is not None:
        others.remove(LevelRules("chat", tuple(own)))
    return (*others, LevelRules(level, tuple(rules)))


class Trial:
    """Every call of a chat, judged twice: by the rules as they are, and as they would be."""

    def __init__(
        self,
        messages: Sequence[Said],
        *,
        chat_id: str,
        workspace: WorkspaceFacts = _NO_WORKSPACE,
        present: Sequence[LevelRules],
        draft: Sequence[LevelRules],
        needing_approval: Set[str],
        granted: Set[str],
    ) -> None:
        """Look at the calls.

        Args:
            messages: The history, oldest first.
            chat_id: Whose.
            workspace: The one that it has.
            present: The rules of all levels.
            draft: The same, with the draft in them.
            needing_approval: Tools that say so themselves.
            granted: Tools that a person has allowed beyond one call.
        """
        found = _calls(messages, chat_id, workspace)
        self._calls = found[-MOST_CALLS:]
        self._truncated = len(found) > MOST_CALLS or len(messages) >= MOST_MESSAGES
        self._present, self._draft = present, draft
        self._needing, self._granted = needing_approval, granted
        self.questions = [
            Question(
                values_of(call.tool, call.arguments, here),
                conditions_of((*present, *draft), call.tool, call.arguments),
            )
            for _, call, here in self._calls
        ]
        """What `report` has to know, call by call."""

    def report(self, holding: Sequence[Mapping[str, bool]]) -> DryRunReport:
        """Judge.

        Args:
            holding: Which conditions hold, for each of `questions`.
        """
        judged: list[JudgedCall] = []
        for (message_id, call, _), held in zip(self._calls, holding, strict=True):
            before, after = (
                self._outcome(levels, call, held) for levels in (self._present, self._draft)
            )
            shown = _shown(call.arguments)
            judged.append(JudgedCall(message_id, call.call_id, call.tool, shown, before, after))
        return DryRunReport(
            calls=tuple(judged),
            changed=sum(call.before.decision != call.after.decision for call in judged),
            truncated=self._truncated,
        )

    def _outcome(
        self, levels: Sequence[LevelRules], call: ToolCallPart, holding: Mapping[str, bool]
    ) -> Outcome:
        verdict = judge(
            levels,
            call.tool,
            call.arguments,
            holding=holding,
            needs_approval=call.tool in self._needing,
        )
        if verdict.decision == "ask" and call.tool in self._granted:
            return Outcome("allow", "a person has allowed this tool already")
        return Outcome(verdict.decision, verdict.reason)


def _calls(
    messages: Sequence[Said], chat_id: str, workspace: WorkspaceFacts
) -> list[tuple[MessageId, ToolCallPart, Circumstances]]:
    """The calls that rules speak of: not those of the provider, which are never asked about."""
    found: list[tuple[MessageId, ToolCallPart, Circumstances]] = []
    steps = cost_micros = 0
    for message in messages:
        if message.role == "user":
            steps = 0
        if message.role != "assistant":
            continue
        steps += 1
        cost_micros += message.cost_micros
        here = Circumstances(chat_id, steps, RuleFacts(cost_micros, workspace))
        found += [
            (message.id, part, here)
            for part in message.parts
            if isinstance(part, ToolCallPart) and not part.provider_executed
        ]
    return found


def _shown(arguments: JsonObject) -> str:
    text = msgspec.json.encode(arguments).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
