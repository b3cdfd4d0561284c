"""The rules of the page about approvals decide what its table says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from steersman_chatloop.policy import judge
from steersman_contracts.judging import Circumstances
from steersman_contracts.parts import JsonObject
from steersman_contracts.policies import LevelRules, Rule, RuleFacts, WorkspaceFacts
from steersman_contracts.rest import PolicyBody

PAGE = (Path(__file__).parents[3] / "docs" / "approvals.md").read_text()


def test_every_row_is_decided_as_it_says() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    body = msgspec.json.decode(example, type=PolicyBody)
    rules = tuple(Rule(**msgspec.structs.asdict(rule)) for rule in body.rules)
    levels = (LevelRules("system", rules),)
    rows = re.findall(
        r"^\| `(\w+)` \| `({.*})` \| (\w*) ?\| (\d+) \| (\w+) \|$", PAGE, re.MULTILINE
    )

    decided: list[str] = []
    for tool, arguments, driver, cost, _ in rows:
        facts = RuleFacts(int(cost), WorkspaceFacts(driver=driver))
        given = msgspec.json.decode(arguments, type=JsonObject)
        here = Circumstances("chat", facts=facts)
        decided.append(judge(levels, tool, given, circumstances=here).decision)

    assert len(rows) == 7
    assert decided == [decision for *_, decision in rows]


def test_every_field_of_a_rule_is_named() -> None:
    assert set(Rule.__struct_fields__) <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
