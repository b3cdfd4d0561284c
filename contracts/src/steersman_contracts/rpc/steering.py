"""What people decide while a turn waits for them, and how a worker makes it wait."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import ChatId, RunnerId
from steersman_contracts.questions import Answer
from steersman_contracts.rpc import Actor, Method, Nothing
from steersman_contracts.rpc.chats import ChatReply
from steersman_contracts.rpc.worker import Committed, Fence
from steersman_contracts.terms import LimitReached, TurnLimits

MAX_PLAN: Final = 100_000
MAX_COMMENT: Final = 10_000

CallId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Answers = Annotated[tuple[Answer, ...], msgspec.Meta(min_length=1, max_length=4)]
Comment = Annotated[str, msgspec.Meta(max_length=MAX_COMMENT)]


class AnswerQuestion(msgspec.Struct, frozen=True):
    """Answer the questions of one call; the turn goes on when nothing else is pending."""

    actor: Actor
    chat_id: ChatId
    call_id: CallId | None
    """None is the only call that asks."""
    answers: Answers


class DecidePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Approve the plan that was proposed, or send it back.

    An approval leaves plan mode and starts a turn, and so does a rejection with a comment, which
    stays in plan mode; a rejection without one only says so.
    """

    actor: Actor
    chat_id: ChatId
    approved: bool
    comment: Comment = ""


class SetLimits(msgspec.Struct, frozen=True):
    """Replace the limits of a chat's turns; a turn that waits at one goes on and looks again."""

    actor: Actor
    chat_id: ChatId
    limits: TurnLimits


class ProposePlan(msgspec.Struct, frozen=True):
    """Store a plan, once for a call."""

    chat_id: ChatId
    runner_id: RunnerId
    call_id: CallId
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PLAN)]


class PauseTurn(msgspec.Struct, frozen=True):
    """A limit is reached: wait for a person."""

    fence: Fence
    reached: LimitReached
    expires_s: Annotated[float, msgspec.Meta(gt=0)]


ANSWER_QUESTION: Final = Method("store", "chats.answer_question", AnswerQuestion, ChatReply)
DECIDE_PLAN: Final = Method("store", "chats.decide_plan", DecidePlan, ChatReply)
SET_LIMITS: Final = Method("store", "chats.set_limits", SetLimits, ChatReply)
PROPOSE_PLAN: Final = Method("store", "worker.propose_plan", ProposePlan, Nothing, safe=True)
PAUSE_TURN: Final = Method("store", "worker.pause_turn", PauseTurn, Committed)
