"""Agents of a chat: spawn them, wait for them, talk to them. Each call is one RPC to the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

from steersman_chatloop.agent_kinds import KINDS, capabilities_of
from steersman_chatloop.asking import ask
from steersman_chatloop.chat_tools.base import ChatTool, Scene
from steersman_contracts.agents import MAX_AGENTS_NAMED, described, is_over, wait_result
from steersman_contracts.chats import AgentKind
from steersman_contracts.errors import InvalidRequest, NotFound
from steersman_contracts.ids import UUID_PATTERN, ChatId, MessageId, ModelName
from steersman_contracts.model_options import Effort
from steersman_contracts.parts import MAX_TEXT, JsonObject, JsonPart, ToolCallPart, ToolResultPart
from steersman_contracts.rpc import Method
from steersman_contracts.rpc import agents as rpc
from steersman_contracts.rpc.chats import BusyBehavior
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import AgentWait, OwnedChat
from steersman_contracts.tool_schema import input_schema

A = TypeVar("A", bound=msgspec.Struct)
Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

Answer = ToolResultPart | AgentWait

_MOST_WAIT_S: Final = 4 * 3600

_AgentId = Annotated[str, msgspec.Meta(pattern=UUID_PATTERN, description="As spawn_agent gave it.")]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
_KINDS: Final = "; ".join(f"{kind}: {abilities.purpose}" for kind, abilities in KINDS.items())


class Spawn(msgspec.Struct, frozen=True):
    """Arguments of `spawn_agent`."""

    prompt: Annotated[
        _Text,
        msgspec.Meta(
            description="The task. The agent sees nothing of this conversation: say all that it "
            "has to know, and what to report."
        ),
    ]
    title: Annotated[
        str, msgspec.Meta(max_length=200, description="A few words that name the task.")
    ] = ""
    type: Annotated[AgentKind, msgspec.Meta(description=_KINDS)] = "general"
    model: Annotated[
        str | None,
        msgspec.Meta(description="Another model than yours, as `<provider>/<model>`."),
    ] = None
    effort: Annotated[
        Effort | None, msgspec.Meta(description="How hard it thinks; yours unless given.")
    ] = None
    detach: Annotated[
        bool,
        msgspec.Meta(description="It goes on when this conversation is interrupted or put away."),
    ] = False
    share_desktop: Annotated[
        bool,
        msgspec.Meta(
            description="Only of the type computer_use: it works on your desktop, with your "
            "windows, in place of one of its own. One of you acts at a time: you can take over at "
            "any moment, it has to wait until you have not acted for a while."
        ),
    ] = False


class Wait(msgspec.Struct, frozen=True):
    """Arguments of `wait_agent`."""

    agent_ids: Annotated[
        tuple[_AgentId, ...], msgspec.Meta(min_length=1, max_length=MAX_AGENTS_NAMED)
    ]
    timeout_s: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=_MOST_WAIT_S,
            description="Seconds to wait at most; 0 looks without waiting. When it is over you are "
            "told how far they are, and can wait again.",
        ),
    ] = 300.0
    any_of: Annotated[
        bool, msgspec.Meta(description="Come back as soon as one of them is done.")
    ] = False


class MessageTo(msgspec.Struct, frozen=True):
    """Arguments of `message_agent`."""

    agent_id: _AgentId
    message: _Text
    when_busy: Annotated[
        BusyBehavior,
        msgspec.Meta(
            description="While it works: `queue` lets it finish first, `interrupt` ends its turn."
        ),
    ] = "queue"


class Interrupt(msgspec.Struct, frozen=True):
    """Arguments of `interrupt_agent`."""

    agent_id: _AgentId


class ListThem(msgspec.Struct, frozen=True):
    """Arguments of `list_agents`: none."""


@dataclass(frozen=True, slots=True)
class AgentTool(Generic[A]):
    """One of the tools: its arguments are read here."""

    spec: ToolSpec
    arguments: type[A]
    act: Callable[[Scene, ToolCallPart, A], Awaitable[Answer]]

    def is_offered(self, chat: OwnedChat) -> bool:
        """Chats that may have agents."""
        return chat.may_spawn and not capabilities_of(chat).read_only

    async def run(self, scene: Scene, call: ToolCallPart) -> Answer:
        """Do it, however often the store has to be asked.

        Raises:
            InvalidRequest: The arguments are not what the schema says.
            SteersmanError: The store refuses.
        """
        try:
            arguments = msgspec.convert(call.arguments, self.arguments)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{error}") from error
        return await self.act(scene, call, arguments)


async def _ask(scene: Scene, method: Method[Q, R], request: Q) -> R:
    """Ask until there is an answer: each of these is done once, however often it is asked for."""
    around = scene.around
    return await ask(around.rpc, method, request, within_s=around.settings.store_timeout_s)


def _caller(scene: Scene) -> rpc.Caller:
    return rpc.Caller(scene.chat.chat_id, scene.around.runner_id)


def _call(scene: Scene, call: ToolCallPart) -> rpc.AgentCall:
    return rpc.AgentCall(MessageId(scene.message_id), call.call_id)


def _said(call: ToolCallPart, value: Any) -> ToolResultPart:
    return ToolResultPart(call.call_id, call.tool, (JsonPart(value),))


async def _spawn(scene: Scene, call: ToolCallPart, wanted: Spawn) -> Answer:
    needs = KINDS[wanted.type].needs
    if needs:
        offered = {tool.name for tool in await scene.around.toolbox.catalog()}
        if missing := sorted(needs - offered):
            raise NotFound(
                f"an agent of the type {wanted.type} needs the tool {', '.join(missing)}, which "
                "this deployment does not have: there is no desktop here. Use another type."
            )
    request = rpc.SpawnAgent(
        _caller(scene),
        _call(scene, call),
        wanted.prompt,
        kind=wanted.type,
        title=wanted.title,
        model=None if wanted.model is None else ModelName(wanted.model),
        effort=wanted.effort,
        detached=wanted.detach,
        share_desktop=wanted.share_desktop,
    )
    spawned = await _ask(scene, rpc.SPAWN_AGENT, request)
    return _said(
        call,
        {"agent_id": spawned.agent_id, "title": spawned.title, "model": spawned.model},
    )


async def _wait(scene: Scene, call: ToolCallPart, wanted: Wait) -> Answer:
    agent_ids = tuple(ChatId(agent_id) for agent_id in dict.fromkeys(wanted.agent_ids))
    reply = await _ask(scene, rpc.LOOK_AT_AGENTS, rpc.LookAtAgents(_caller(scene), agent_ids))
    over = is_over(reply.agents, any_of=wanted.any_of)
    if over or wanted.timeout_s == 0:
        return wait_result(call.call_id, call.tool, reply.agents, timed_out=not over)
    return AgentWait(call.call_id, agent_ids, wanted.timeout_s, wanted.any_of)


async def _message(scene: Scene, call: ToolCallPart, wanted: MessageTo) -> Answer:
    request = rpc.MessageAgent(
        _caller(scene),
        _call(scene, call),
        ChatId(wanted.agent_id),
        wanted.message,
        wanted.when_busy,
    )
    reply = await _ask(scene, rpc.MESSAGE_AGENT, request)
    return _said(call, {"agent_id": wanted.agent_id, "message": reply.delivery})


async def _interrupt(scene: Scene, call: ToolCallPart, wanted: Interrupt) -> Answer:
    request = rpc.InterruptAgent(_caller(scene), _call(scene, call), ChatId(wanted.agent_id))
    reply = await _ask(scene, rpc.INTERRUPT_AGENT, request)
    return _said(call, {"agent_id": wanted.agent_id, "status": reply.status.value})


async def _list(scene: Scene, call: ToolCallPart, _: ListThem) -> Answer:
    reply = await _ask(scene, rpc.LOOK_AT_AGENTS, rpc.LookAtAgents(_caller(scene)))
    return _said(call, {"agents": [described(agent) for agent in reply.agents]})


def _tool(
    name: str,
    description: str,
    arguments: type[A],
    act: Callable[[Scene, ToolCallPart, A], Awaitable[Answer]],
    *,
    read_only: bool = False,
) -> AgentTool[A]:
    schema: JsonObject = input_schema(arguments)
    spec = ToolSpec(name, description, schema, plugin="chat", idempotent=True, read_only=read_only)
    return AgentTool(spec, arguments, act)


AGENT_TOOLS: Final[tuple[ChatTool, ...]] = (
    _tool(
        "spawn_agent",
        "Give a task to an agent, which works on it at the same time as you. Spawn several for "
        "independent tasks, then wait for them. This returns at once, with the agent's id.",
        Spawn,
        _spawn,
    ),
    _tool(
        "wait_agent",
        "Wait until agents are done, and read their reports: what each said last. You are not "
        "charged for waiting.",
        Wait,
        _wait,
        read_only=True,
    ),
    _tool(
        "message_agent",
        "Send an agent a message: more to do for one that is done, or a correction for one that "
        "works.",
        MessageTo,
        _message,
    ),
    _tool(
        "interrupt_agent",
        "End what an agent is doing. It keeps what it has, and can be sent another message.",
        Interrupt,
        _interrupt,
    ),
    _tool(
        "list_agents",
        "All agents of this conversation and how far they are, without their reports.",
        ListThem,
        _list,
        read_only=True,
    ),
)
"""In the order in which they are offered."""
