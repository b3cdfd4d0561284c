"""What a worker does with the agents of a chat that it owns. Every request names the owner.

What changes something is done once for a (chat, message, call): a worker that dies in the middle
and its successor together spawn one agent and send one message.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.agents import MAX_AGENTS_NAMED, AgentState
from steersman_contracts.chats import AgentKind, Status
from steersman_contracts.ids import ChatId, MessageId, ModelName, RunnerId
from steersman_contracts.model_options import Effort
from steersman_contracts.parts import MAX_TEXT
from steersman_contracts.rpc import Method
from steersman_contracts.rpc.chats import BusyBehavior, Delivery

AgentIds = Annotated[tuple[ChatId, ...], msgspec.Meta(max_length=MAX_AGENTS_NAMED)]
AgentText = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
AgentTitle = Annotated[str, msgspec.Meta(max_length=200)]


class Caller(msgspec.Struct, frozen=True):
    """A chat and who works on it: refused when that is no longer so."""

    chat_id: ChatId
    runner_id: RunnerId


class AgentCall(msgspec.Struct, frozen=True):
    """The tool call that asks: names what it does for ever."""

    message_id: MessageId
    call_id: str


class SpawnAgent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start an agent. What is not said it takes from the chat."""

    caller: Caller
    call: AgentCall
    prompt: AgentText
    kind: AgentKind = "general"
    title: AgentTitle = ""
    """Empty takes the first words of the prompt."""
    model: ModelName | None = None
    effort: Effort | None = None
    detached: bool = False
    share_desktop: bool = False
    """It uses the desktop of the chat; only of the kind `computer_use`."""


class LookAtAgents(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far agents are: those that are named, with their reports, or all below the chat."""

    caller: Caller
    agent_ids: AgentIds = ()


class MessageAgent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Send an agent a message."""

    caller: Caller
    call: AgentCall
    agent_id: ChatId
    text: AgentText
    busy_behavior: BusyBehavior = "queue"


class InterruptAgent(msgspec.Struct, frozen=True):
    """End the turn of an agent, and of those below it."""

    caller: Caller
    call: AgentCall
    agent_id: ChatId


class Spawned(msgspec.Struct, frozen=True):
    """The agent, new or from the same call before."""

    agent_id: ChatId
    title: str
    model: ModelName


class AgentList(msgspec.Struct, frozen=True):
    """In the order of the question, or the oldest first."""

    agents: tuple[AgentState, ...]


class AgentMessaged(msgspec.Struct, frozen=True):
    """Where the message went."""

    delivery: Delivery


class AgentInterrupted(msgspec.Struct, frozen=True):
    """How the agent stands right after it."""

    status: Status


SPAWN_AGENT: Final = Method("store", "agents.spawn", SpawnAgent, Spawned, safe=True)
LOOK_AT_AGENTS: Final = Method("store", "agents.look", LookAtAgents, AgentList, safe=True)
MESSAGE_AGENT: Final = Method("store", "agents.message", MessageAgent, AgentMessaged, safe=True)
INTERRUPT_AGENT: Final = Method(
    "store", "agents.interrupt", InterruptAgent, AgentInterrupted, safe=True
)
