"""The ring: bounded, with the right head and tail, and always text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_plugin_exec.output import Ring

MARKER = re.compile(r"\n\[… (\d+) bytes of output dropped …\]\n")
CAPS = st.integers(128, 400)


def filled(cap: int, chunks: list[bytes]) -> Ring:
    ring = Ring(cap)
    for chunk in chunks:
        ring.add(chunk)
    return ring


@given(cap=CAPS, chunks=st.lists(st.binary(max_size=300), max_size=12))
def test_any_output_becomes_valid_text_within_the_cap(cap: int, chunks: list[bytes]) -> None:
    ring = filled(cap, chunks)

    output = ring.output()

    assert len(output.text.encode()) <= cap
    assert "\0" not in output.text
    assert ring.total == sum(map(len, chunks))
    assert 0 <= output.dropped <= ring.total
    assert (output.dropped > 0) == (MARKER.search(output.text) is not None)


@given(
    cap=CAPS,
    text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=130),
)
def test_text_that_fits_is_kept_as_it_is(cap: int, text: str) -> None:
    data = text.encode()
    for size in (1, 7, 1_000):
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        output = filled(cap, chunks).output()
        if len(data) <= cap:
            assert (output.text, output.dropped) == (text, 0)


@given(cap=CAPS, total=st.integers(129, 3_000), size=st.integers(1, 700))
def test_two_thirds_are_the_beginning_and_one_third_is_the_end(
    cap: int, total: int, size: int
) -> None:
    data = "".join(f"{number:5}" for number in range(total)).encode()[:total]
    output = filled(cap, [data[at : at + size] for at in range(0, total, size)]).output()
    if total <= cap:
        assert output.text == data.decode()
        return

    head, dropped, tail = MARKER.split(output.text)

    assert len(head) == (cap - 64) * 2 // 3
    assert len(head) + len(tail) == cap - 64
    assert data.startswith(head.encode())
    assert data.endswith(tail.encode())
    assert int(dropped) == output.dropped == total - len(head) - len(tail)


@given(cap=CAPS, text=st.text(min_size=300, max_size=900), size=st.integers(1, 500))
def test_no_character_is_cut_in_two(cap: int, text: str, size: int) -> None:
    text = text.replace("\0", "").replace("\ufffd", "")
    data = text.encode()
    output = filled(cap, [data[at : at + size] for at in range(0, len(data), size)]).output()
    if not output.dropped:
        return

    head, _, tail = MARKER.split(output.text)

    assert text.startswith(head)
    assert text.endswith(tail)
    assert output.dropped == len(data) - len(head.encode()) - len(tail.encode())


def test_bytes_that_are_no_text_are_replaced_one_by_one() -> None:
    assert filled(128, [b"a\xff\xfe\0b\xc3"]).output().text == "a\ufffd\ufffd\ufffdb\ufffd"


def test_replacements_that_would_outgrow_the_cap_are_cut_and_counted() -> None:
    output = filled(128, [b"\xff" * 128]).output()

    head, dropped, tail = MARKER.split(output.text)
    assert (head, tail) == ("\ufffd" * 14, "\ufffd" * 7)
    assert int(dropped) == 128 - 21


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", ""),
        (b"one\ntwo\n\n  \n", "two"),
        (b"50 %\r60 %", "60 %"),
        (b"x" * 5_000 + b"end", "x" * 197 + "end"),
        (b"a\n\xff\n", "\ufffd"),
    ],
)
def test_the_last_line_that_says_something_is_known(data: bytes, line: str) -> None:
    assert filled(2_000, [data]).last_line() == line
    assert filled(2_000, [b"other\n" * 1_000, data]).last_line() == (line or "other")


def test_a_ring_that_is_too_small_for_its_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 128 bytes: 127"):
        Ring(127)
