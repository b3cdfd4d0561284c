"""A chat with agents, as its worker drives it through the store's RPC."""

from __future__ import annotations

from typing import Any

from steersman_contracts.chats import Chat, Status
from steersman_contracts.ids import ChatId, MessageId, RunnerId
from steersman_contracts.parts import JsonPart, ResultContent, ToolCallPart, ToolResultPart
from steersman_contracts.policies import PendingApproval
from steersman_contracts.rpc import agents as rpc
from steersman_contracts.rpc import worker as work
from support.chat_driver import StoreDriver, assistant
from support.waiting import until

RUNNER = RunnerId("runner-1")
WAIT = ToolCallPart("call-wait", "wait_agent", {})


class Family:
    """A parent at work, and short names for what its worker does."""

    def __init__(self, store: StoreDriver, parent: Chat, message_id: MessageId) -> None:
        self.store = store
        self.parent = parent
        self.message_id = message_id

    @classmethod
    async def begin(cls, store: StoreDriver, *calls: ToolCallPart) -> Family:
        parent = await store.create("go")
        await store.acquire(parent.id)
        committed = await store.commit(await store.fence(parent.id), assistant(*(calls or (WAIT,))))
        return cls(store, parent, committed.messages[-1].id)

    def caller(self, runner: str = RUNNER) -> rpc.Caller:
        return rpc.Caller(self.parent.id, RunnerId(runner))

    def call(self, call_id: str) -> rpc.AgentCall:
        return rpc.AgentCall(self.message_id, call_id)

    async def spawn(self, call_id: str = "s-1", **fields: Any) -> ChatId:
        caller = fields.pop("caller", self.caller())
        request = rpc.SpawnAgent(caller, self.call(call_id), f"do {call_id}", **fields)
        return (await self.store.rpc.call(rpc.SPAWN_AGENT, request)).agent_id

    async def look(self, *agents: ChatId) -> rpc.AgentList:
        request = rpc.LookAtAgents(self.caller(), agents)
        return await self.store.rpc.call(rpc.LOOK_AT_AGENTS, request)

    async def message(self, agent: ChatId, words: str, call_id: str, **fields: Any) -> str:
        request = rpc.MessageAgent(self.caller(), self.call(call_id), agent, words, **fields)
        return (await self.store.rpc.call(rpc.MESSAGE_AGENT, request)).delivery

    async def wait(
        self,
        *agents: ChatId,
        calls: tuple[ToolCallPart, ...] = (WAIT,),
        timeout_s: float = 600,
        any_of: bool = False,
        approvals: tuple[PendingApproval, ...] = (),
    ) -> Chat:
        """Rest until agents are done."""
        wait = work.AgentWait(WAIT.call_id, agents, timeout_s, any_of)
        request = work.EnterRequiresAction(
            await self.store.fence(self.parent.id), calls, (), approvals, waits=(wait,)
        )
        await self.store.rpc.call(work.ENTER_REQUIRES_ACTION, request)
        return await self.store.chat(self.parent.id)

    async def results(self) -> list[ToolResultPart]:
        messages = await self.store.messages(self.parent.id)
        return [p for m in messages for p in m.parts if isinstance(p, ToolResultPart)]

    async def told(self) -> dict[str, Any]:
        """What the wait has answered."""
        part, *_ = await self.answered()
        assert isinstance(part, JsonPart)
        return part.value

    async def answered(self) -> tuple[ResultContent, ...]:
        """What the wait has answered, as it is stored."""
        await until(lambda: self._is(Status.RUNNING))
        return next(r for r in await self.results() if r.call_id == WAIT.call_id).content

    async def _is(self, status: Status) -> bool:
        return (await self.store.chat(self.parent.id)).status is status


async def end(store: StoreDriver, chat_id: ChatId, words: str, runner: str = "runner-2") -> None:
    """The turn of an agent, from its worker."""
    await store.acquire(chat_id, runner)
    await store.finish(await store.fence(chat_id, runner), assistant(words))
