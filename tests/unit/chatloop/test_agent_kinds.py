"""One table says what an agent is offered, may run and is told."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from steersman_chatloop.agent_kinds import KINDS, OF_A_PERSON, capabilities_of
from steersman_chatloop.instructions import system_text
from steersman_chatloop.offers import Offer, chat_tools_of
from steersman_contracts.chats import AgentKind, ClientTool, Status
from steersman_contracts.ids import ChatId, ModelName, UserId
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess, OwnedChat

READS = ToolSpec("look", "", {}, "test", read_only=True)
WRITES = ToolSpec("drop", "", {}, "test")
TOOLS = ["spawn_agent", "wait_agent", "message_agent", "interrupt_agent", "list_agents"]


def owned(kind: AgentKind | None, *, may_spawn: bool) -> OwnedChat:
    return OwnedChat(
        chat_id=ChatId("c"),
        owner_id=UserId("u"),
        status=Status.RUNNING,
        snapshot_version=1,
        history_version=1,
        generation_attempt=0,
        model=ModelAccess(ModelName("demo/echo"), "demo", "demo", "echo"),
        parent_id=None if kind is None else ChatId("p"),
        agent_kind=kind,
        may_spawn=may_spawn,
    )


def names(chat: OwnedChat) -> list[str]:
    return [tool.spec.name for tool in chat_tools_of(chat) if tool.spec.name.endswith("_agent")]


def test_every_kind_is_in_the_table_and_says_what_it_is_for() -> None:
    assert set(KINDS) == set(get_args(AgentKind))
    assert all(one.purpose and one.prompt for one in KINDS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_only_gets_only_what_reads(kind: AgentKind) -> None:
    assert KINDS[kind].allows(READS)
    assert KINDS[kind].allows(WRITES) is (kind != "explore")


def test_agents_are_offered_where_they_may_be_and_a_client_can_hide_them() -> None:
    person = owned(None, may_spawn=True)
    assert capabilities_of(person) is OF_A_PERSON
    assert names(person) == TOOLS[:-1]
    assert names(owned("general", may_spawn=True)) == TOOLS[:-1]
    assert names(owned("general", may_spawn=False)) == []
    assert names(owned("explore", may_spawn=True)) == []
    client = ClientTool("wait_agent", "mine", {"type": "object"})
    hidden = msgspec.structs.replace(person, client_tools=(client,))
    assert "wait_agent" not in names(hidden)


def prompt(kind: AgentKind | None) -> str:
    chat = msgspec.structs.replace(owned(kind, may_spawn=False), system_prompt="Be brief.")
    return system_text(Offer().prompt(chat))


def test_an_agent_is_told_that_it_is_one_after_all_else() -> None:
    told = prompt("explore")

    assert told.startswith("Be brief.\n\n# You are an agent")
    assert "you have only tools that read" in told
    assert prompt(None) == "Be brief."
