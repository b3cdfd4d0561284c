"""Texts take a short way into a request; what comes out is what the long way gives."""

from __future__ import annotations

from collections import defaultdict

import msgspec
from contract.providers.test_any_history import (
    TO_REQUEST,
    any_messages,
    asked,
    message,
    stops,
    texts,
    usual,
)
from fakes.script import Kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.plain import Beginning, plain
from steersman_contracts.chats import Message, Role
from steersman_contracts.parts import ProviderMetadata, TextPart
from steersman_contracts.rpc.worker import ModelAccess

ELSEWHERE = ProviderMetadata("elsewhere")
"""Nobody's, so that it changes nothing but the way that a text takes."""

said = st.builds(
    message,
    st.sampled_from([Role.USER, Role.ASSISTANT]),
    texts.map(lambda text: [TextPart(text)]),
    stops | st.just("refusal"),
)
histories = st.lists(said, max_size=8) | st.lists(said | any_messages, max_size=8)


def the_long_way(one: Message) -> Message:
    if plain(one) is None:
        return one
    (part,) = one.parts
    return msgspec.structs.replace(
        one, parts=(msgspec.structs.replace(part, provider_metadata=ELSEWHERE),)
    )


def targets(kind: Kind) -> list[ModelAccess]:
    found = [usual(kind)]
    if kind == "chat":  # which wants to see reasoning with everything that the model said
        found.append(msgspec.structs.replace(found[0], base_url="https://api.deepseek.com/v1"))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_a_text_is_written_alike_on_the_short_way_and_on_the_long_one(
    history: list[Message],
) -> None:
    long = tuple(the_long_way(one) for one in history)
    for kind, to_request in TO_REQUEST.items():
        for model in targets(kind):
            request = msgspec.structs.replace(asked([], model), messages=tuple(history))
            slow = msgspec.structs.replace(request, messages=long, beginning=Beginning())
            assert not any(plain(one) for one in slow.messages)
            assert to_request(request) == to_request(slow), kind


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(histories, st.integers(0, 8)), min_size=2, max_size=4))
def test_what_was_kept_of_earlier_requests_changes_nothing(
    courses: list[tuple[list[Message], int]],
) -> None:
    """The history grows, is cut somewhere and goes on in another way, with changing models."""
    beginnings = [defaultdict[Kind, Beginning](Beginning) for _ in range(2)]
    shared = Beginning()  # as when the model is changed again and again
    history: list[Message] = []
    for more, cut in courses:
        history = [*history[:cut], *more]
        for kind, to_request in TO_REQUEST.items():
            for model, kept_of in zip(targets(kind), beginnings, strict=False):
                new = StepRequest(asked([], model).chat_id, model, "", tuple(history), ())
                for beginning in (kept_of[kind], beginnings[0][kind], shared):
                    kept = msgspec.structs.replace(new, beginning=beginning)
                    assert to_request(kept) == to_request(new), kind
