"""What people decide while a chat waits for them, over REST: answers, plans, limits."""

from __future__ import annotations

from litestar import Controller, post, put
from litestar.params import JSONBody

from steersman_contracts.chats import Chat
from steersman_contracts.questions import Answer
from steersman_contracts.rest_prompts import AnswersBody, LimitsBody, PlanDecisionBody
from steersman_contracts.rpc import steering as rpc
from steersman_contracts.terms import TurnLimits
from steersman_gateway.auth import CurrentActor
from steersman_gateway.backend import Services
from steersman_gateway.ids import ChatInPath


class DecisionController(Controller):
    """Answer questions, approve plans, raise limits."""

    path = "/chats/{chat_id:str}"
    tags = ("Chats",)

    @post("/answers", operation_id="answerQuestion", summary="Answer the model", status_code=202)
    async def answer(
        self,
        chat: ChatInPath,
        data: JSONBody[AnswersBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Answer a call of `ask_user_question` in `action.calls`; the turn goes on."""
        answers = tuple(Answer(one.selected, one.text) for one in data.answers)
        request = rpc.AnswerQuestion(actor, chat, data.call_id, answers)
        return (await backend.call(rpc.ANSWER_QUESTION, request)).chat

    @post("/plan/approve", operation_id="approvePlan", summary="Approve the plan", status_code=202)
    async def approve(
        self,
        chat: ChatInPath,
        data: JSONBody[PlanDecisionBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Leave plan mode, and have the model carry out what it has proposed."""
        request = rpc.DecidePlan(actor, chat, True, data.comment)
        return (await backend.call(rpc.DECIDE_PLAN, request)).chat

    @post("/plan/reject", operation_id="rejectPlan", summary="Send the plan back", status_code=202)
    async def reject(
        self,
        chat: ChatInPath,
        data: JSONBody[PlanDecisionBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """Stay in plan mode; with a comment, the model changes its plan at once."""
        request = rpc.DecidePlan(actor, chat, False, data.comment)
        return (await backend.call(rpc.DECIDE_PLAN, request)).chat

    @put("/limits", operation_id="putLimits", summary="Set the limits of turns")
    async def limits(
        self,
        chat: ChatInPath,
        data: JSONBody[LimitsBody],
        actor: CurrentActor,
        backend: Services,
    ) -> Chat:
        """A turn that waits at a limit (`action.limit`) goes on, and waits again at the next one.

        Interrupt the chat to end such a turn instead.
        """
        limits = TurnLimits(data.steps, data.tokens, data.cost_micros, data.wall_s)
        return (await backend.call(rpc.SET_LIMITS, rpc.SetLimits(actor, chat, limits))).chat
