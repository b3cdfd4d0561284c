"""The local calls of one step: rules first, then the server's tools and the chat's own at once.

What is left when they are done waits for others: a person who is asked, the chat's client, or
whatever a tool of the chat waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from steersman_chatloop.agent_kinds import capabilities_of
from steersman_chatloop.chat_tools import CHAT_TOOLS
from steersman_chatloop.chat_tools.base import ChatTool, Scene
from steersman_chatloop.decide import error_result
from steersman_chatloop.offers import (
    NOT_BELOW_A_PLAN,
    NOT_IN_PLAN_MODE,
    chat_tools_of,
    harmless,
)
from steersman_chatloop.policy import SortedCalls, sort_out
from steersman_chatloop.settings import Settings
from steersman_chatloop.surroundings import Surroundings
from steersman_contracts import subjects
from steersman_contracts.errors import SteersmanError
from steersman_contracts.events import EVENT_HEADER, ToolProgress
from steersman_contracts.judging import Circumstances, conditions_of, values_of
from steersman_contracts.parts import ToolCallPart
from steersman_contracts.policies import PendingApproval
from steersman_contracts.questions import ASK
from steersman_contracts.rpc.tools import CallProgress, ToolSpec
from steersman_contracts.rpc.worker import AgentWait, OwnedChat
from steersman_runtime.conditions import Question
from steersman_runtime.nats_client import encode_headers

log = structlog.stdlib.get_logger()

_LEAST_RESULT: Final = 16 << 10


def result_room(context_limit: int | None) -> int | None:
    """Bytes of text that one result may have: a third of the window, at three bytes for a token.

    Args:
        context_limit: Tokens that the model can take; None: not known, and so is the room.
    """
    return None if context_limit is None else max(_LEAST_RESULT, context_limit // 3 * 3)


class StepCalls:
    """The calls of one step while they run. What is in `results` is finished, at any time."""

    def __init__(
        self,
        around: Surroundings,
        chat: OwnedChat,
        calls: Sequence[ToolCallPart],
        message_id: int,
        hands_on: Callable[[], bool] = lambda: False,
        told_at: float = float("-inf"),
        first: bool = False,
    ) -> None:
        """Look at the calls.

        Args:
            around: What every turn needs.
            chat: The chat, owned.
            calls: All local calls of the step, in order.
            message_id: The message that holds them.
            hands_on: Whether somebody else goes on with them when this is cancelled.
            told_at: When the store has told what the chat is like, on the clock of this process.
            first: Whether this process has stored the calls, and asked nobody for them yet.
        """
        self._first = first
        self._told_at = told_at
        self._hands_on = hands_on
        self._around = around
        self._chat = chat
        self._message_id = message_id
        self._seqs: dict[str, int] = {}
        self.calls = calls
        self.results = {result.call_id: result for result in chat.results}
        self.asked: tuple[PendingApproval, ...] = ()
        """Calls that a person decides about."""
        self.awaits: tuple[AgentWait, ...] = ()
        """Calls that agents answer."""

    @property
    def waits(self) -> bool:
        """Whether calls are left that others answer."""
        return any(call.call_id not in self.results for call in self.calls)

    @property
    def waits_for_person(self) -> bool:
        """Whether a question to a person is among them."""
        own = {tool.spec.name for tool in chat_tools_of(self._chat)}
        return ASK in own and any(
            call.tool == ASK and call.call_id not in self.results for call in self.calls
        )

    async def run(self) -> None:
        """Run what is ours to run."""
        own = {tool.spec.name: tool for tool in chat_tools_of(self._chat)}
        self._refuse_in_plan_mode(await self._around.toolbox.known_to(self._chat))
        of_client = {tool.name for tool in self._chat.client_tools}
        await self._refuse_what_is_beyond_it()
        sorted_ = await self._sorted_out(
            [
                call
                for call in self.calls
                if call.call_id not in self.results and (call.tool not in of_client or call.invalid)
            ],
            own,
        )
        self.asked = sorted_.asked
        self.results |= {result.call_id: result for result in sorted_.refused}
        async with asyncio.TaskGroup() as group:
            for call in sorted_.allowed:
                if call.tool in own and call.invalid is None:
                    group.create_task(self._run_own(own[call.tool], call))
            await self._around.toolbox.run(
                self._chat.chat_id,
                [c for c in sorted_.allowed if c.tool not in own or c.invalid is not None],
                epoch=self._message_id,
                result_bytes=result_room(self._chat.model.context_limit),
                finished=self.results,
                on_progress=self._publish_progress,
                hands_on=self._hands_on,
                no_workspace_since=self._told_at if self._chat.no_workspace else float("-inf"),
                first=self._first,
                era=self._chat.calls_era,
            )

    def _refuse_in_plan_mode(self, catalog: Iterable[ToolSpec]) -> None:
        """What a model was not offered it may call all the same."""
        terms = self._chat.terms
        if not terms.looks_only:
            return
        why = NOT_IN_PLAN_MODE if terms.plan_mode else NOT_BELOW_A_PLAN
        allowed = {tool.name for tool in harmless(self._chat, catalog)}
        for call in self.calls:
            if call.tool not in allowed and call.call_id not in self.results:
                self.results[call.call_id] = error_result(call, why)

    async def _run_own(self, tool: ChatTool, call: ToolCallPart) -> None:
        scene = Scene(self._around, self._chat, self._message_id)
        try:
            result = await tool.run(scene, call)
        except SteersmanError as error:
            log.warning("tool.failed", tool=call.tool, error_code=error.code)
            result = error_result(call, f"the call could not be made: {error}")
        except Exception as error:  # a tool that crashes costs one error result, not the turn
            log.exception("tool.crashed", tool=call.tool)
            result = error_result(call, f"the tool failed: {type(error).__name__}")
        if isinstance(result, AgentWait):
            self.awaits = (*self.awaits, result)
        elif result is not None:
            self.results[call.call_id] = result

    async def _refuse_what_is_beyond_it(self) -> None:
        """An agent may know the name of a tool that it was not offered."""
        capabilities = capabilities_of(self._chat)
        if not capabilities.read_only:
            return
        others = await self._around.toolbox.known_to(self._chat)
        known = (*others, *(tool.spec for tool in CHAT_TOOLS))
        # What is not known to be harmless is refused: a tool may exist that no catalog names.
        within = {spec.name for spec in known if capabilities.allows(spec)}
        for call in self.calls:
            if call.tool not in within and call.call_id not in self.results:
                self.results[call.call_id] = error_result(
                    call, f"{call.tool} is not for you: you may only look, and change nothing"
                )

    async def _sorted_out(
        self, calls: Sequence[ToolCallPart], own: Mapping[str, ChatTool]
    ) -> SortedCalls:
        """What the rules say about each call. What a person has allowed is not asked again."""
        chat = self._chat
        needing = await self._around.toolbox.needing_approval(
            chat.chat_id, (call.tool for call in calls if call.tool not in own)
        )
        return sort_out(
            calls,
            levels=chat.policies,
            needing_approval=needing,
            granted=frozenset(chat.grants),
            approved=frozenset(chat.approved),
            holding=await self._holding(calls),
        )

    async def _holding(self, calls: Sequence[ToolCallPart]) -> dict[str, dict[str, bool]]:
        """Which conditions of the rules hold, call by call."""
        chat = self._chat
        if not chat.policies:
            return {}
        here = Circumstances(chat.chat_id, chat.steps, chat.facts)
        questions = [
            Question(
                values_of(call.tool, call.arguments, here),
                conditions_of(chat.policies, call.tool, call.arguments),
            )
            for call in calls
        ]
        holding = await self._around.conditions.holding(questions)
        return {call.call_id: held for call, held in zip(calls, holding, strict=True)}

    def _publish_progress(self, call: ToolCallPart, frame: CallProgress) -> None:
        chat_id = self._chat.chat_id
        seq = self._seqs[call.call_id] = self._seqs.get(call.call_id, 0) + 1
        event = ToolProgress(
            chat_id=chat_id,
            history_version=self._chat.history_version,
            call_id=call.call_id,
            tool=call.tool,
            seq=seq,
            text=frame.text,
        )
        headers = encode_headers(
            {
                "ce-specversion": "1.0",
                EVENT_HEADER: event.name,
                "ce-source": f"/chats/{chat_id}",
                "ce-id": f"{call.call_id}.{seq}",
            }
        )
        with suppress(SteersmanError):  # progress may be skipped without loss
            done = self._around.publisher.publish(
                subjects.chat_events(chat_id), msgspec.json.encode(event), headers=headers
            )
            done.add_done_callback(lambda future: future.cancelled() or future.exception())


def patience_s(calls: StepCalls, settings: Settings) -> float:
    """Seconds until what the calls still wait for is given up: as long as the slowest may take."""
    if calls.waits_for_person:
        return settings.question_timeout_s
    return settings.approval_timeout_s if calls.asked else settings.action_timeout_s
