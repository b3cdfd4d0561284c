"""Proposes a plan in a chat that is in plan mode, and ends the turn: a person decides."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_chatloop.chat_tools.arguments import read, said
from steersman_chatloop.chat_tools.base import Scene
from steersman_contracts.parts import ToolCallPart, ToolResultPart
from steersman_contracts.rpc.steering import MAX_PLAN
from steersman_contracts.rpc.steering import PROPOSE_PLAN as STORE_PLAN
from steersman_contracts.rpc.steering import ProposePlan as StorePlan
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import OwnedChat
from steersman_contracts.tool_schema import input_schema


class PlanArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `propose_plan`."""

    plan: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=MAX_PLAN,
            description="The whole plan in Markdown: what is done in which order, and why.",
        ),
    ]


class ProposePlan:
    """The tool `propose_plan`."""

    spec = ToolSpec(
        "propose_plan",
        "Propose what you would do. It ends your turn; a person approves the plan, which leaves "
        "plan mode, or sends it back with a comment.",
        input_schema(PlanArguments),
        plugin="chat",
        idempotent=True,
        read_only=True,
        ends_turn=True,
    )

    def is_offered(self, chat: OwnedChat) -> bool:
        """In plan mode alone."""
        return chat.terms.plan_mode

    async def run(self, scene: Scene, call: ToolCallPart) -> ToolResultPart | None:
        """Store the plan."""
        wanted = read(call, PlanArguments)
        if isinstance(wanted, ToolResultPart):
            return wanted
        # Providers use call ids again: with the message it is the same call for ever.
        name = f"{scene.message_id}:{call.call_id}"[:200]
        request = StorePlan(scene.chat.chat_id, scene.around.runner_id, name, wanted.plan)
        await scene.around.rpc.call(STORE_PLAN, request)
        return said(call, "The plan was shown to the person, who decides about it.", ends_turn=True)


PROPOSE_PLAN: Final = ProposePlan()
