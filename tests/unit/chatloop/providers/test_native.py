from __future__ import annotations

import re
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_chatloop.providers.native import CallIds, Origin, WireIds, family
from steersman_contracts.ids import ModelName
from steersman_contracts.parts import ProviderMetadata
from steersman_contracts.rpc.worker import ModelAccess

ACCESS = ModelAccess(ModelName("p/claude-5"), "anthropic", "p", "claude-5-20260101", account="a")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("mistral-large-latest", "mistral-large"),
        ("gpt-5", "gpt-5"),
        ("gemini-3-pro-preview", "gemini-3-pro-preview"),
    ],
)
def test_snapshots_of_a_model_are_one_family(model: str, expected: str) -> None:
    assert family(model) == expected


def test_a_block_is_read_by_its_own_format_account_and_family() -> None:
    origin = Origin("anthropic", ACCESS)
    own = origin.keep({"x": 1})
    assert origin.native(own) == {"x": 1}
    assert origin.native(msgspec.structs.replace(own, model="claude-5-20260901")) == {"x": 1}
    for change in ({"origin": "google"}, {"account": "b"}, {"model": "claude-6"}, {"native": "x"}):
        assert origin.native(msgspec.structs.replace(own, **change)) is None
    assert origin.native(None) is None
    assert origin.wrote(msgspec.structs.replace(own, model="claude-6"))
    assert not origin.wrote(ProviderMetadata("anthropic", "other"))


@given(st.lists(st.text(max_size=80), max_size=12), st.sampled_from([40, 64]))
def test_ids_are_plain_short_unique_and_stable(call_ids: list[str], limit: int) -> None:
    first, second = WireIds(limit), WireIds(limit)
    wires = [first.call(call_id) for call_id in call_ids]
    assert wires == [second.call(call_id) for call_id in call_ids]
    assert len(set(wires)) == len(wires)
    assert all(re.fullmatch(rf"[A-Za-z0-9_-]{{1,{limit}}}", wire) for wire in wires)
    latest = dict(zip(call_ids, wires, strict=True))
    assert all(first.result(call_id) == wire for call_id, wire in latest.items())


def test_plain_ids_stay_as_they_are() -> None:
    assert WireIds().call("toolu_01NbP3iG8A6TYDwEUxN6tiWw") == "toolu_01NbP3iG8A6TYDwEUxN6tiWw"


def test_ids_of_a_step_are_unique_in_the_chat() -> None:
    numbers = count()
    ids = CallIds(["call_0"], make=lambda: f"made_{next(numbers)}")
    assert [ids.take(wanted) for wanted in ("call_0", "call_1", "call_1", None, "", "x" * 201)] == [
        "made_0",
        "call_1",
        "made_1",
        "made_2",
        "made_3",
        "made_4",
    ]
