"""Which words of an answer a source of Gemini supports."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_chatloop.providers.google_sources import ROOM, Place, Sources, places
from steersman_contracts.parts import SourcePart

TEXT = "Über Öl: teuer. 🌊 Wellen. Ende."


def chunk(name: str) -> dict[str, Any]:
    return {"web": {"uri": f"https://{name}.example", "title": name}}


def support(words: str, *sources: int, text: str = TEXT, named: bool = True) -> dict[str, Any]:
    start = text.encode().index(words.encode())
    segment: dict[str, Any] = {"endIndex": start + len(words.encode())}
    segment |= {"startIndex": start} if start else {}
    segment |= {"text": words} if named else {}
    return {"segment": segment, "groundingChunkIndices": list(sources)}


def cited(text: str, *metadata: dict[str, Any]) -> list[tuple[str, list[str]]]:
    sources = Sources()
    for one in metadata:
        sources.ground(one)
    return [
        (part.title, [text[start:end] for start, end in part.cited]) for part in sources.parts(text)
    ]


@pytest.mark.parametrize("named", [True, False])
def test_bytes_become_characters_and_sources_come_as_they_are_cited(*, named: bool) -> None:
    grounding = {
        "groundingChunks": [chunk("a"), chunk("b"), chunk("c")],
        "groundingSupports": [
            support("🌊 Wellen.", 0, named=named),
            support("Über Öl: teuer.", 2, named=named),
            support("Ende.", 0, 2, named=named),
        ],
    }
    assert cited(TEXT, grounding) == [
        ("c", ["Über Öl: teuer.", "Ende."]),
        ("a", ["🌊 Wellen.", "Ende."]),
        ("b", []),
    ]


def test_what_several_chunks_say_again_counts_once() -> None:
    grounding = {
        "groundingChunks": [chunk("a")],
        "groundingSupports": [support("Ende.", 0)],
    }
    assert cited(TEXT, grounding, grounding) == [("a", ["Ende."])]


WRONG: list[dict[str, Any]] = [
    {"segment": {"startIndex": 0, "endIndex": 1}, "groundingChunkIndices": [0]},  # half of an Ü
    {"segment": {"startIndex": 5, "endIndex": 900}, "groundingChunkIndices": [0]},
    {"segment": {"startIndex": 5, "endIndex": 3}, "groundingChunkIndices": [0]},
    {"segment": {"endIndex": 5, "text": "not there"}, "groundingChunkIndices": [0]},
    {"segment": {"endIndex": 5}, "groundingChunkIndices": [7, -1]},
    {"groundingChunkIndices": [0]},
    {},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_place_that_cannot_be_is_none(wrong: dict[str, Any]) -> None:
    grounding = {"groundingChunks": [chunk("a")], "groundingSupports": [wrong]}
    assert cited(TEXT, grounding) == [("a", [])]


def test_words_are_found_where_google_counts_from_another_beginning() -> None:
    one = {"segment": {"endIndex": 5, "text": "Ende."}, "groundingChunkIndices": [0]}
    grounding = {"groundingChunks": [chunk("a")], "groundingSupports": [one]}
    assert cited(TEXT, grounding) == [("a", ["Ende."])]


def test_citations_have_places_too() -> None:
    sources = Sources()
    sources.cite({"citationSources": [{"uri": "https://a.example", "endIndex": 5}, {"uri": ""}]})
    assert sources.parts("Hello there") == [SourcePart("https://a.example", cited=((0, 5),))]


FIRST, SEARCH, SECOND = Place(1, 0, 10), Place(200, 10, None), Place(400, 10, 30)


def source(name: str, *cited: tuple[int, int]) -> SourcePart:
    return SourcePart(name, cited=cited)


@pytest.mark.parametrize(
    ("sources", "rooms", "indexes"),
    [
        ([source("a", (5, 9))], [], [900]),
        ([source("a", (5, 9)), source("b", (12, 20))], [FIRST, SECOND], [1, 400]),
        ([source("a", (5, 9)), source("b", (12, 20))], [FIRST, SEARCH, SECOND], [1, 200]),
        ([source("a", (12, 14)), source("b", (15, 20))], [FIRST, SEARCH, SECOND], [200, 201]),
        ([source("a")], [FIRST, SEARCH, SECOND], [200]),
        ([source("a")], [FIRST, SECOND], [400]),
        ([source("a", (30, 31))], [FIRST], [900]),
    ],
)
def test_a_source_stands_where_it_was_found_or_where_it_is_cited(
    sources: list[SourcePart], rooms: list[Place], indexes: list[int]
) -> None:
    assert list(places(sources, rooms, 900)) == list(zip(indexes, sources, strict=True))


def test_what_has_no_room_stands_behind_everything() -> None:
    many = [source(str(n), (5, 9)) for n in range(ROOM + 2)]
    indexes = [index for index, _ in places(many, [FIRST], 900)]
    assert indexes == [*range(1, ROOM + 1), 900, 901]
