"""A provider that refuses what it has written itself gets the history in words that anybody reads.

Signatures and encrypted reasoning are bound to things that we cannot see: the exact prefix before
them, an organisation, a deployment behind a gateway. A chat that holds one which is refused would
be refused for ever.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, TypeAlias

import msgspec
import structlog

from steersman_chatloop.providers.base import StepRequest
from steersman_chatloop.providers.signals import signal_of
from steersman_contracts.parts import JsonObject

log = structlog.stdlib.get_logger()

Batches: TypeAlias = AsyncGenerator[list[JsonObject]]

_STATUS: Final = frozenset({400, 404, 422})
_CODES: Final = frozenset({"invalid_encrypted_content", "missing_thought_signature"})
# No API has codes for all of these. A wrong guess costs one more request that is refused as well.
_WORDS: Final = re.compile(
    r"signature|redacted_thinking|thinking.{0,3} blocks?|expected .?thinking|encrypted content"
    r"|required following item|required .?reasoning|\bitem\b.{1,80} not found|prefix.?mismatch",
    re.IGNORECASE,
)
_NOBODY: Final = "\0"
"""An account that has written nothing."""


async def answers(
    request: StepRequest,
    body: JsonObject,
    to_request: Callable[[StepRequest], JsonObject],
    send: Callable[[JsonObject], Batches],
) -> Batches:
    """Send the request; once more without what only the provider can read, if it refuses that.

    Args:
        request: The step.
        body: `to_request` of it.
        to_request: Builds a body.
        send: Sends one, and raises before the first event when it is refused.
    """
    begun = False
    try:
        async with aclosing(send(body)) as batches:
            async for batch in batches:
                begun = True
                yield batch
    except Exception as error:
        plain = None if begun or not _is_refused(error) else to_request(_unowned(request))
        if plain is None or plain == body:
            raise
        log.warning("state.refused", model=request.model.name)
    else:
        return
    async with aclosing(send(plain)) as batches:
        async for batch in batches:
            yield batch


def _unowned(request: StepRequest) -> StepRequest:
    model = msgspec.structs.replace(request.model, account=_NOBODY)
    return msgspec.structs.replace(request, model=model)


def _is_refused(error: Exception) -> bool:
    signal = signal_of(error)
    return signal.status in _STATUS and (
        not _CODES.isdisjoint(signal.codes) or _WORDS.search(signal.text) is not None
    )
