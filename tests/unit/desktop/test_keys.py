from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.errors import InvalidRequest
from steersman_desktop.keys import batches, combinations, on_keyboard, typeable

SHIFT, CTRL, ALT, SUPER = 0xFFE1, 0xFFE3, 0xFFE9, 0xFFEB


@pytest.mark.parametrize(
    ("text", "keysyms"),
    [
        ("a", (0x61,)),
        ("A", (SHIFT, 0x41)),
        ("!", (SHIFT, 0x21)),
        ("Return", (0xFF0D,)),
        ("enter", (0xFF0D,)),
        ("ESC", (0xFF1B,)),
        ("F12", (0xFFC9,)),
        ("KP_0", (0xFFB0,)),
        ("XF86Back", (0x1008FF26,)),
        ("Page_Down", (0xFF56,)),
        ("space", (0x20,)),
        (" ", (0x20,)),
        ("+", (SHIFT, 0x2B)),
        ("plus", (SHIFT, 0x2B)),
        ("ctrl+plus", (CTRL, SHIFT, 0x2B)),
        ("ctrl++", (CTRL, SHIFT, 0x2B)),
        ("ctrl+L", (CTRL, 0x6C)),
        ("ctrl+shift+t", (CTRL, SHIFT, 0x54)),
        ("shift+1", (SHIFT, 0x21)),
        ("shift+Tab", (SHIFT, 0xFE20)),
        ("Control_L+Alt_L+Delete", (CTRL, ALT, 0xFFFF)),
        ("cmd+space", (SUPER, 0x20)),
        ("shift", (SHIFT,)),
        ("ctrl+shift", (CTRL, SHIFT)),
        ("é", (0xE9,)),
        ("漢", (0x1006F22,)),
        ("😀", (0x101F600,)),
    ],
)
def test_a_combination_is_its_keys_in_order(text: str, keysyms: tuple[int, ...]) -> None:
    (found,) = combinations(text)

    assert found.keysyms == keysyms


def test_several_combinations_are_separated_by_spaces() -> None:
    assert [found.keysyms for found in combinations("ctrl+a Delete")] == [(CTRL, 0x61), (0xFFFF,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retrun", "there is no key 'retrun'; did you mean 'return'?"),
        ("a+b", "'a' in 'a+b' is no modifier"),
        ("ctrl+", "there is no key ''"),
        ("   ", "names no key"),
        ("\x07", "'\\x07' is no key"),
    ],
)
def test_what_is_no_key_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        combinations(text)

    assert message in str(refused.value)
    assert refused.value.details["field"] == "text"


def test_line_breaks_are_one_key_each_and_controls_are_refused() -> None:
    assert typeable("a\r\nb\rc\n\t") == "a\nb\nc\n\t"
    for bad in ("a\x00", "a\x1b", "a\ud800", "a\ufffe"):
        with pytest.raises(InvalidRequest, match="character 1 is U\\+"):
            typeable(bad)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200), st.integers(1, 24))
def test_batches_are_the_whole_text_in_order_with_few_new_characters_each(
    text: str, slots: int
) -> None:
    found = list(batches(text, slots))

    assert "".join(found) == text
    for batch in found:
        assert len(batch) > 0
        assert len({character for character in batch if not on_keyboard(character)}) <= slots
