"""What becomes of a chat when something of ours breaks: it ends with an error that says so.

Left alone it would be handed from worker to worker for ever, and each would call the model again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias, cast

import msgspec
import structlog

from steersman_chatloop.asking import ask
from steersman_chatloop.claim import Claim
from steersman_chatloop.partial import NewMessages
from steersman_chatloop.steering import LostError
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts.chats import ChatError, Status
from steersman_contracts.errors import DeadlineExceeded, StaleFence, SteersmanError, Unavailable
from steersman_contracts.rpc import worker as rpc

log = structlog.stdlib.get_logger()

_MOST_TRIES: Final = 3
"""How often the same is written to a chat that changes meanwhile."""

Keep: TypeAlias = Callable[[], Awaitable[NewMessages]]
"""What is to be kept of a turn, as the chat is at the moment."""


def classify(error: BaseException) -> ChatError:
    """An error of ours as people see it. What it says stays in the log: that may quote a chat."""
    while isinstance(error, BaseExceptionGroup):  # of tasks that ran together: the first that broke
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[
            0
        ]  # of what is not said
    detail = type(error).__name__
    if isinstance(error, Unavailable | DeadlineExceeded):
        return ChatError("timeout", "A part of this server did not answer.", detail, retryable=True)
    return ChatError("generic", "Something went wrong on our side.", detail)


async def give_up(claim: Claim, error: Exception, keeps: Sequence[Keep]) -> bool:
    """End the turn of a chat that is ours.

    Args:
        claim: The chat.
        error: What broke.
        keeps: What to keep of it, the best first: what cannot be stored must not keep the chat
            from its end.

    Returns:
        Whether the turn has ended; otherwise its lease does, and another worker tries.
    """
    ended = claim.turns_ended
    for keep in keeps:
        try:
            for _ in range(_MOST_TRIES):
                await claim.end_broken(classify(error), await keep())
                if claim.turns_ended > ended:
                    return True
        except LostError:
            log.info("turn.lost")
            return False
        except Exception as again:  # worse than before: the next one is simpler
            log.error("turn.not_closed", exc_info=again)  # noqa: TRY400  # it has the error
    return False


async def close(around: Surroundings, fence: rpc.Fence, error: Exception) -> None:
    """End the turn of a chat that is ours and could not even be loaded, under its bare fence."""
    failure = classify(error)
    for _ in range(_MOST_TRIES):
        try:
            await _finish(around, fence, failure)
        except StaleFence as stale:
            if not stale.details.get("owned"):
                return
            details = stale.details
            fence = msgspec.structs.replace(
                fence, history_version=details["history_version"], status=Status(details["status"])
            )
            continue
        except SteersmanError as again:
            log.error("chat.not_closed", error_code=again.code)  # noqa: TRY400  # the code says it all
            return  # the lease ends by itself: given back, the chat would go round and round
        break
    # A queued message may have been promoted: nobody is to wait for the end of the lease.
    with suppress(SteersmanError):
        await around.rpc.call(rpc.ABANDON, rpc.Abandon(fence.chat_id, around.runner_id))


async def _finish(around: Surroundings, fence: rpc.Fence, failure: ChatError) -> None:
    within_s = around.settings.lease_s
    if fence.status is Status.INTERRUPTING:  # only its own end leads out of there
        end = rpc.FinishInterruption(fence)
        await ask(around.rpc, rpc.FINISH_INTERRUPTION, end, within_s=within_s)
    else:
        await ask(around.rpc, rpc.FINISH_ERROR, rpc.FinishError(fence, failure), within_s=within_s)
