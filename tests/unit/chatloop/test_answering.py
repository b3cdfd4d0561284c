"""Which model answers when the chat's own goes on failing."""

from __future__ import annotations

import msgspec
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


def test_a_model_that_was_mended_is_the_same_model_and_a_fallback_stays_in_place() -> None:
    own, other = model("p/a", "p/b", after=1), model("p/b")
    mended = msgspec.structs.replace(own, base_url="http://there", reached=False)
    answering = Answering(own)

    answering.refresh(mended)

    assert (answering.model, answering.after(BUSY)) == (mended, "p/b")
    answering.switch(other)
    answering.refresh(msgspec.structs.replace(other, api_key="another"))
    assert (answering.model.api_key, answering.own) == ("another", mended)
    # That it has answered makes no other model of it; whatever else a person changes does.
    assert answering.is_for(msgspec.structs.replace(mended, reached=True))
    assert not answering.is_for(own)
