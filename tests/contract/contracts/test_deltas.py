"""The one fold from deltas to parts: previews, committed messages and partial steps agree."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest
from contract.contracts.structs import instances, json_values, text
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_contracts.deltas import (
    Delta,
    PartAdded,
    PartClosed,
    PartsBuilder,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    join_deltas,
    parse_arguments,
)
from steersman_contracts.parts import (
    FilePart,
    Parts,
    ProviderMetadata,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

chunks = st.lists(text, max_size=5)
argument_texts = st.one_of(
    st.just(""),
    st.dictionaries(text, json_values, max_size=3).map(lambda v: msgspec.json.encode(v).decode()),
    st.sampled_from(["{", "[1]", "null", '"text"', '{"a": 1} {', " \n", "{'a': 1}"]),
)
added = st.one_of(instances(SourcePart), instances(FilePart), instances(ToolResultPart))


def in_pieces(value: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(value) + 1) for cut in cuts), len(value)]
    return [value[start:end] for start, end in pairwise(edges)]


@st.composite
def part_streams(draw: st.DrawFn, index: int) -> list[Delta]:
    """All deltas of one part, in order."""
    kind = draw(st.sampled_from(["text", "reasoning", "call", "added"]))
    match kind:
        case "text":
            return [TextDelta(index, chunk) for chunk in ["", *draw(chunks)]]
        case "reasoning":
            return [ReasoningDelta(index, chunk) for chunk in ["", *draw(chunks)]]
        case "call":
            started = ToolCallStarted(index, f"call-{index}", "tool", draw(st.booleans()))
            pieces = in_pieces(draw(argument_texts), draw(st.lists(st.integers(0, 99), max_size=4)))
            return [started, *(ToolArgumentsDelta(index, piece) for piece in pieces)]
        case _:
            return [PartAdded(index, draw(added))]


@st.composite
def episodes(draw: st.DrawFn) -> list[Delta]:
    """The deltas of several parts, mixed as a provider may mix them."""
    parts = [draw(part_streams(index)) for index in range(draw(st.integers(0, 5)))]
    chance = random.Random(draw(st.integers(0, 999)))
    merged: list[Delta] = []
    while waiting := [part for part in parts if part]:
        part = chance.choice(waiting)
        count = chance.randint(1, len(part))
        merged += part[:count]
        del part[:count]
    return merged


def folded(deltas: Iterable[Delta | PartClosed]) -> Parts:
    builder = PartsBuilder()
    for delta in deltas:
        builder.apply(delta)
    return builder.parts()


def joined(deltas: list[Delta], batch: int) -> list[Delta]:
    """As they are published: what arrives in the meantime is joined."""
    out: list[Delta] = []
    for start in range(0, len(deltas), batch):
        pending: list[Delta] = []
        for delta in deltas[start : start + batch]:
            join_deltas(pending, delta)
        out += pending
    return out


@settings(deadline=None, max_examples=50)
@given(episodes(), st.integers(1, 40))
def test_joining_deltas_changes_nothing(deltas: list[Delta], batch: int) -> None:
    assert folded(joined(deltas, batch)) == folded(deltas)


@settings(deadline=None, max_examples=50)
@given(episodes())
def test_joined_deltas_never_continue_one_another(deltas: list[Delta]) -> None:
    everything = joined(deltas, len(deltas) or 1)

    for before, after in pairwise(everything):
        assert (type(before), before.index) != (type(after), after.index)


@settings(deadline=None, max_examples=50)
@given(episodes(), st.integers(0, 100))
def test_the_order_between_parts_does_not_matter(deltas: list[Delta], seed: int) -> None:
    one_after_the_other = sorted(deltas, key=lambda delta: delta.index)  # a stable sort

    assert folded(one_after_the_other) == folded(deltas)


@settings(deadline=None, max_examples=50)
@given(episodes(), st.integers(0, 60))
def test_a_fold_that_is_looked_at_on_the_way_gives_the_same(deltas: list[Delta], at: int) -> None:
    builder = PartsBuilder()
    for number, delta in enumerate(deltas):
        builder.apply(delta)
        if number == at:
            assert builder.parts() == folded(deltas[: at + 1])

    assert builder.parts() == folded(deltas)
    assert bool(builder) is bool(deltas)
    assert builder.next_index == max((delta.index for delta in deltas), default=-1) + 1


def call(*pieces: str) -> ToolCallPart:
    deltas = [ToolArgumentsDelta(0, piece) for piece in pieces]
    (part,) = folded([ToolCallStarted(0, "c", "tool"), *deltas])
    assert isinstance(part, ToolCallPart)
    return part


@pytest.mark.parametrize("pieces", [(), ("",), ("", " "), ("{", "}"), ("{}",)])
def test_no_arguments_are_the_empty_object(pieces: tuple[str, ...]) -> None:
    assert (call(*pieces).arguments, call(*pieces).invalid) == ({}, None)


@pytest.mark.parametrize(
    "broken",
    ['{"a": ', "[1, 2]", "5", "null", '"text"', "{'a': 1}", "[" * 100_000, '{"a": "\ud800"}'],
)
def test_what_is_no_object_is_kept_as_it_came(broken: str) -> None:
    part = call(broken[:3], broken[3:])

    assert (part.arguments, part.invalid) == ({}, broken)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(text, json_values, max_size=3), st.lists(st.integers(0, 99), max_size=5))
def test_arguments_in_any_pieces_are_what_was_sent(
    value: dict[str, object], cuts: list[int]
) -> None:
    sent = msgspec.json.encode(value).decode()

    assert call(*in_pieces(sent, cuts)).arguments == value
    assert parse_arguments(sent) == (value, None)


def test_text_without_a_character_is_left_out_unless_the_provider_needs_it_back() -> None:
    metadata = ProviderMetadata("anthropic", native={"signature": "x"})
    empty = [TextDelta(0, ""), ReasoningDelta(1, "")]

    assert folded(empty) == ()
    assert folded([*empty, PartClosed(1, metadata)]) == (ReasoningPart("", metadata),)


def test_closing_a_part_gives_it_what_the_provider_needs_back() -> None:
    metadata = ProviderMetadata("google", native={"thought": 1})
    source = SourcePart("https://example.org")

    parts = folded(
        [
            TextDelta(0, "a"),
            ToolCallStarted(1, "c", "tool"),
            PartAdded(2, source),
            *(PartClosed(index, metadata) for index in range(4)),
        ]
    )

    assert parts == (
        TextPart("a", metadata),
        ToolCallPart("c", "tool", {}, provider_metadata=metadata),
        msgspec.structs.replace(source, provider_metadata=metadata),
    )


def test_only_calls_whose_arguments_have_ended_may_run() -> None:
    builder = PartsBuilder()
    for index in range(3):
        builder.apply(ToolCallStarted(index, f"c{index}", "tool"))
    builder.apply(PartClosed(1))

    assert builder.unclosed_calls() == {"c0", "c2"}


@pytest.mark.parametrize(
    "deltas",
    [
        [TextDelta(0, "a"), ReasoningDelta(0, "b")],
        [ReasoningDelta(0, "a"), TextDelta(0, "b")],
        [TextDelta(0, "a"), ToolArgumentsDelta(0, "{}")],
        [ToolArgumentsDelta(0, "{}")],
        [ToolCallStarted(0, "c", "t"), TextDelta(0, "a")],
        [ToolCallStarted(0, "c", "t"), ToolCallStarted(0, "d", "t")],
        [TextDelta(0, "a"), ToolCallStarted(0, "c", "t")],
        [PartAdded(0, SourcePart("u")), TextDelta(0, "a")],
    ],
)
def test_a_delta_for_a_part_of_another_kind_is_a_bad_stream(deltas: list[Delta]) -> None:
    with pytest.raises(ValueError, match="part 0"):
        folded(deltas)
