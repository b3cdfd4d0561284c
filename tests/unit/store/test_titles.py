"""Which model names a chat, from which text, and when."""

from __future__ import annotations

import msgspec
import pytest

from steersman_contracts.ids import ModelName
from steersman_contracts.parts import FilePart, FileReferencePart, TextPart
from steersman_contracts.rpc.models import ProviderType
from steersman_store.titles import choose, text_for_title, wants_title

CHAT = "01970000-0000-7000-8000-000000000001"


def chosen(kind: ProviderType, own: str, *offered: str) -> list[str]:
    names = {model: ModelName(f"p/{model}") for model in (own, *offered)}
    return [name.removeprefix("p/") for name in choose(kind, ModelName(f"p/{own}"), names)]


@pytest.mark.parametrize(
    ("kind", "own", "offered", "expected"),
    [
        ("anthropic", "claude-opus-5-5", ("claude-haiku-5-5", "claude-sonnet-5-5"), 0),
        ("anthropic", "claude-opus-5-5", ("claude-haiku-5-5", "claude-haiku-4-5"), 0),
        ("openai-responses", "gpt-6.2-sol", ("gpt-6-nano", "gpt-5.4-mini"), 0),
        ("openai-responses", "gpt-6.2-sol", ("gpt-5.4-mini", "gpt-6-luna"), 0),
        ("google", "gemini-3.1-pro-preview", ("gemini-3.8-flash", "gemini-2.5-flash"), 0),
        ("google", "gemini-pro", ("gemini-2.5-flash-lite", "gemini-3.8-flash"), 0),
        ("openai-chat", "big-model", ("Other-Mini",), 0),
        ("openai-chat", "big-model", ("minimal-70b",), None),
        ("anthropic", "claude-opus-5-5", (), None),
    ],
)
def test_a_cheap_model_of_the_same_provider_is_asked_first(
    kind: ProviderType, own: str, offered: tuple[str, ...], expected: int | None
) -> None:
    cheap = [] if expected is None else [offered[expected]]

    assert chosen(kind, own, *offered) == [*cheap, own]


def test_a_model_that_is_cheap_itself_is_asked_once() -> None:
    assert chosen("anthropic", "claude-haiku-5-5", "claude-opus-5-5") == ["claude-haiku-5-5"]


def test_the_demo_and_the_tiny_local_model_are_never_asked() -> None:
    tour = ModelName("demo/tour")
    local = ModelName("local/smollm2-135m-instruct")

    assert choose("demo", tour, {"tour": tour}) == ()
    assert choose("openai-chat", local, {"smollm2-135m-instruct": local}) == ()


def test_a_title_is_made_from_the_beginning_of_what_was_said() -> None:
    parts = (
        FilePart("image/png", "sea.png", "f"),
        TextPart("Look"),
        FileReferencePart("a.py", 1, 2, "secret"),
    )

    assert text_for_title(parts) == "Look\n(a file: sea.png)\n(from a.py)"
    assert len(text_for_title((TextPart("x" * 10_000),))) == 4_000


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"title_source": "person"}, False),
        ({"title_source": "generated"}, False),
        ({"status": "waiting"}, False),
        ({"model": "demo/echo"}, False),
    ],
)
def test_a_chat_wants_a_title_when_its_first_words_are_its_name(
    changes: dict[str, str], wanted: bool
) -> None:
    chat = {"id": CHAT, "model": "p/m", "title_source": "auto", "status": "running"} | changes

    def reply(delivery: str) -> bytes:
        return msgspec.json.encode({"delivery": delivery, "chat": chat})

    assert wants_title(reply("started")) == (CHAT if wanted else None)
    assert wants_title(reply("queued")) is None
