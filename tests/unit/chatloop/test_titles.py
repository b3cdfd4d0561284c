"""What a model says becomes a title, or nothing."""

from __future__ import annotations

import msgspec
import pytest

from steersman_chatloop.titles import clean_title, title_request
from steersman_contracts.ids import ChatId, ModelName
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.worker import ModelAccess


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("A walk by the sea", "A walk by the sea"),
        ('"A walk by the sea."\n', "A walk by the sea"),
        ("\n\n**Title: A walk**\nIt is nice.", "A walk"),
        ("# Spaziergang", "Spaziergang"),
        ("\u201eAm Meer\u201c", "Am Meer"),
        (
            "one two three four five six seven eight nine ten",
            "one two three four five six seven eight",
        ),
        ("a" * 50 + " " + "b" * 50, "a" * 50),
        ("Tab\there\x00and\u202ethere", "Tab here and there"),
        ("", ""),
        (' "" \n', ""),
    ],
)
def test_a_title_is_one_short_line(said: str, title: str) -> None:
    assert clean_title(said) == title


def test_a_title_is_asked_for_without_tools_or_options() -> None:
    access = ModelAccess(
        ModelName("p/m"), "anthropic", "p", "m", settings=ModelSettings(temperature=1.5)
    )

    request = title_request(ChatId("c"), access, "hello")

    assert request.tools == ()
    assert request.model.settings == ModelSettings()
    older: JsonObject = {"use_responses_api": False}
    settings = ModelSettings(options=older | {"user": "u"})
    openai = msgspec.structs.replace(access, provider_type="openai-responses", settings=settings)
    kept = title_request(ChatId("c"), openai, "hello").model.settings
    assert kept == ModelSettings(options=older), "how the model is reached"
    assert (request.model.max_output_tokens, request.model.tools) == (2_000, False)
    assert len(request.messages) == 1
