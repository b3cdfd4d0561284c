from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import (
    FilePart,
    JsonPart,
    ProviderMetadata,
    ResultContent,
    SourcePart,
    TextPart,
)
from steersman_contracts.rpc.tools import CallResult
from steersman_tools.results import MAX_PARTS, BadResult, Limits, cut, to_call_result

MARKER = re.compile(r"\n\[… (\d+) bytes left out …\]\n")
texts = st.text(st.sampled_from("aß€😀\n"), max_size=600)


@settings(deadline=None)
@given(texts, st.integers(64, 600))
@example("😀" * 100, 64)
@example("a" * 65, 64)
def test_cut_text_fits_is_valid_and_tells_exactly_what_is_missing(text: str, limit: int) -> None:
    shown = cut(text, limit)

    assert len(shown.encode()) <= limit
    if len(text.encode()) <= limit:
        assert shown == text
        return
    head, left_out, tail = MARKER.split(shown)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(text.encode()) == len(head.encode()) + int(left_out) + len(tail.encode())


def test_the_head_is_twice_the_tail() -> None:
    head, _, tail = MARKER.split(cut("x" * 100_000, 30_000))

    assert 1.99 < len(head) / len(tail) < 2.01


contents = st.lists(
    st.one_of(
        texts.map(TextPart),
        st.lists(st.integers(), max_size=200).map(JsonPart),
        st.binary(max_size=300).map(lambda data: FilePart("image/png", "x.png", data=data)),
    ),
    max_size=12,
).map(tuple)


@settings(deadline=None)
@given(contents, st.integers(1024, 4096), st.integers(0, 1000))
def test_a_result_never_has_more_than_its_limits(
    content: tuple[ResultContent, ...], text_bytes: int, file_bytes: int
) -> None:
    limits = Limits(text_bytes, file_bytes)

    result = to_call_result(ToolResult(content=content), duration_ms=1, limits=limits)

    said = [part.text for part in result.content if isinstance(part, TextPart)]
    values = [msgspec.json.encode(p.value) for p in result.content if isinstance(p, JsonPart)]
    files = [part.data or b"" for part in result.content if isinstance(part, FilePart)]
    assert sum(len(text.encode()) for text in said) + sum(map(len, values)) <= text_bytes
    assert sum(map(len, files)) <= file_bytes
    assert msgspec.json.decode(msgspec.json.encode(result), type=CallResult) == result
    if (
        sum(len(msgspec.json.encode(part)) for part in content) < text_bytes - 128
        and not file_bytes
    ):
        assert [p for p in result.content if not isinstance(p, TextPart)] == [
            p
            for p in content
            if isinstance(p, JsonPart) or (isinstance(p, FilePart) and not p.data)
        ]


def test_json_that_does_not_fit_becomes_text() -> None:
    big = JsonPart(["word"] * 1000)

    (part,) = to_call_result(
        ToolResult(content=(big,)), duration_ms=0, limits=Limits(1024, 0)
    ).content

    assert isinstance(part, TextPart)
    assert part.text.startswith('["word","word"')


def test_a_flood_of_parts_ends_with_their_number() -> None:
    many = tuple(TextPart("") for _ in range(MAX_PARTS + 5))

    content = to_call_result(
        ToolResult(content=many), duration_ms=0, limits=Limits(1024, 0)
    ).content

    assert len(content) == MAX_PARTS + 1
    assert content[-1] == TextPart("[… 5 more parts left out …]")


def test_the_result_is_a_copy_that_the_tool_cannot_change() -> None:
    value = {"a": 1}
    result = to_call_result(ToolResult.json(value), duration_ms=0, limits=Limits(1024, 0))

    value["a"] = 2

    assert result.content == (JsonPart({"a": 1}),)


@pytest.mark.parametrize(
    "content",
    [
        (object(),),
        ("text",),
        (TextPart(5),),  # pyright: ignore[reportArgumentType]  # what a plugin may do
        (JsonPart(object()),),
        (FilePart("x" * 500),),
    ],
)
def test_what_is_no_part_is_refused(content: tuple[ResultContent, ...]) -> None:
    with pytest.raises(BadResult):
        to_call_result(ToolResult(content=content), duration_ms=0, limits=Limits(1024, 0))


def test_sources_are_kept_counted_and_stripped_of_what_is_no_plugins() -> None:
    block = ProviderMetadata("anthropic", native={"encrypted": "x"})
    long = SourcePart("https://long.example/" + "x" * 2000)
    given = ToolResult(
        "found",
        (
            SourcePart("https://a.example", "A \udc80", provider_metadata=block),
            long,
            TextPart("end"),
        ),
    )

    kept = to_call_result(given, duration_ms=1, limits=Limits(1024, 0)).content

    assert kept[:2] == (TextPart("found"), SourcePart("https://a.example", "A ?"))
    assert isinstance(kept[2], TextPart)
    assert kept[2].text.startswith("[source: https://long.example/")
    wrong = ToolResult(content=(SourcePart(7),))  # pyright: ignore[reportArgumentType]  # what a plugin may do
    with pytest.raises(BadResult):
        to_call_result(wrong, duration_ms=1, limits=Limits(1024, 0))
