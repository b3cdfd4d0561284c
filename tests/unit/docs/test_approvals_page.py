"""The rules of the page about approvals decide what its table says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from steersman_contracts.judging import Circumstances, conditions_of, judge, values_of
from steersman_contracts.parts import JsonObject
from steersman_contracts.policies import LevelRules, Rule, RuleFacts, WorkspaceFacts
from steersman_contracts.rest import PolicyBody
from steersman_runtime.conditions import Conditions, Question

PAGE = (Path(__file__).parents[3] / "docs" / "approvals.md").read_text()


async def test_every_row_is_decided_as_it_says() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    body = msgspec.json.decode(example, type=PolicyBody)
    rules = tuple(Rule(**msgspec.structs.asdict(rule)) for rule in body.rules)
    levels = (LevelRules("system", rules),)
    rows = re.findall(
        r"^\| `(\w+)` \| `({.*})` \| (\w*) ?\| (\d+) \| (\w+) \|$", PAGE, re.MULTILINE
    )

    decided: list[str] = []
    conditions = Conditions()
    for tool, arguments, driver, cost, _ in rows:
        facts = RuleFacts(int(cost), WorkspaceFacts(driver=driver))
        given = msgspec.json.decode(arguments, type=JsonObject)
        seen = values_of(tool, given, Circumstances("chat", facts=facts))
        question = Question(seen, conditions_of(levels, tool, given))
        (holding,) = await conditions.holding([question])
        decided.append(judge(levels, tool, given, holding=holding).decision)
    await conditions.aclose()

    assert len(rows) == 7
    assert decided == [decision for *_, decision in rows]


def test_every_field_of_a_rule_is_named() -> None:
    assert set(Rule.__struct_fields__) <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
