"""Which model answers when the chat's own goes on failing."""

from __future__ import annotations

import pytest

from steersman_chatloop.answering import Answering
from steersman_contracts.chats import ChatError, ErrorKind
from steersman_contracts.ids import ModelName
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.rpc.worker import ModelAccess

BUSY = ChatError("overloaded", "busy", retryable=True)


def model(name: str, *fallbacks: str, after: int = 3) -> ModelAccess:
    settings = ModelSettings(
        fallbacks=tuple(ModelName(one) for one in fallbacks), fallback_after=after
    )
    return ModelAccess(ModelName(name), "openai-chat", "p", name, settings=settings)


def test_a_passing_failure_has_to_repeat_before_another_model_is_tried() -> None:
    answering = Answering(model("p/a", "p/b", "p/c", after=2))

    assert [answering.after(BUSY) for _ in range(2)] == [None, "p/b"]
    answering.switch(model("p/b"))
    assert [answering.after(BUSY) for _ in range(2)] == [None, "p/c"]
    answering.switch(model("p/c"))
    assert [answering.after(BUSY) for _ in range(5)] == [None] * 5
    assert answering.model.name == "p/c"


@pytest.mark.parametrize("kind", ["auth", "config", "usage_limit", "missing_key"])
def test_what_no_repetition_mends_is_not_repeated(kind: ErrorKind) -> None:
    assert Answering(model("p/a", "p/b")).after(ChatError(kind, "no")) == "p/b"


@pytest.mark.parametrize("kind", ["context_overflow", "content_filter"])
def test_what_lies_in_the_conversation_is_no_reason_for_another_model(kind: ErrorKind) -> None:
    answering = Answering(model("p/a", "p/b", after=1))

    assert answering.after(ChatError(kind, "no", retryable=True)) is None


def test_without_fallbacks_there_is_none() -> None:
    assert Answering(model("p/a", after=1)).after(BUSY) is None
