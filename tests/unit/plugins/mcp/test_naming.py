from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.ids import TOOL_NAME_PATTERN
from steersman_plugin_mcp.naming import clean, line, tool_names


def test_names_carry_the_slug_and_clashes_are_numbered() -> None:
    names = tool_names("s", ["a.b", "a b", "a_b", "a_b_2", "ok"])

    assert names == {
        "a_b": "s__a_b",  # needed no change, so they keep their names
        "a_b_2": "s__a_b_2",
        "ok": "s__ok",
        "a b": "s__a_b_3",
        "a.b": "s__a_b_4",
    }


@given(st.lists(st.text(min_size=1, max_size=90), max_size=20))
def test_any_names_become_good_ones_in_any_order(raw: list[str]) -> None:
    names = tool_names("slug-of-20-characters", raw)

    assert names.keys() == set(raw)
    assert len(set(names.values())) == len(names)
    assert all(re.fullmatch(TOOL_NAME_PATTERN, name) for name in names.values())
    assert tool_names("slug-of-20-characters", raw[::-1]) == names


def test_what_nobody_sees_is_taken_out() -> None:
    hidden = "a\u200bb\u202ec\U000e0041\x1b[31m\ufe0f\u3164d\ne\tf\ue000"

    assert clean(hidden, 100) == "abc[31md\ne\tf"
    assert line(hidden, 100) == "abc[31md e f"


def test_a_long_text_is_cut() -> None:
    assert clean("x" * 50, 10) == "x" * 9 + "…"
