"""Which words of an answer a source of Gemini supports."""

from __future__ import annotations

from typing import Any

import pytest

from steersman_chatloop.providers.google_sources import Sources
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
