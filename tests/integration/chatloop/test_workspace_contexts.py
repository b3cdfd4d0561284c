"""What a workspace says is read within its time, or remembered, or left out; a turn goes on."""

from __future__ import annotations

import asyncio

from steersman_chatloop.workspace_context import WorkspaceContexts
from steersman_contracts.errors import InternalError
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc.context import (
    READ_CONTEXT,
    InstructionFile,
    ReadContext,
    WorkspaceContext,
)
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcServer

CHAT = ChatId("01890a5d-ac96-774b-bcce-b302099a8057")
OTHER = ChatId("01890a5d-ac96-774b-bcce-b302099a8058")
NOTHING = WorkspaceContext()


def saying(text: str) -> WorkspaceContext:
    return WorkspaceContext(True, (InstructionFile("AGENTS.md", text, len(text)),))


async def test_a_workspace_that_is_slow_is_not_waited_for_and_not_asked_for_a_while(
    client: NatsClient,
) -> None:
    asked: list[ChatId] = []
    hangs = False

    async def context(request: ReadContext) -> WorkspaceContext:
        asked.append(request.chat_id)
        if hangs:
            await asyncio.Event().wait()
        return saying("tabs")

    patient = WorkspaceContexts(client, budget_s=60.0)
    hasty = WorkspaceContexts(client, budget_s=0.2, quiet_s=3600.0)
    assert await patient.read(CHAT) == NOTHING  # there is nobody to ask
    server = RpcServer(client, "tools", version="0.0.1")
    server.add(READ_CONTEXT, context)
    await server.start()
    try:
        assert await patient.read(CHAT) == saying("tabs")
        # In the middle of a turn nobody is asked again.
        assert await patient.read(CHAT, goes_on=True) == saying("tabs")
        assert asked == [CHAT]
        hangs = True
        assert await hasty.read(CHAT) == NOTHING
        hangs = False
        assert await hasty.read(CHAT) == NOTHING
        assert await patient.read(OTHER) == saying("tabs")
    finally:
        await server.drain(0.1)
        await patient.aclose()
        await hasty.aclose()


async def test_an_error_of_the_workspace_leaves_what_it_said_last(client: NatsClient) -> None:
    broken = False

    async def context(_: ReadContext) -> WorkspaceContext:
        if broken:
            raise InternalError("the disk is gone")
        return saying("first")

    contexts = WorkspaceContexts(client, budget_s=60.0)
    server = RpcServer(client, "tools", version="0.0.1")
    server.add(READ_CONTEXT, context)
    await server.start()
    try:
        assert await contexts.read(CHAT) == saying("first")
        broken = True
        assert await contexts.read(CHAT) == saying("first")
        assert await contexts.read(OTHER) == NOTHING
        broken = False
        assert await contexts.read(OTHER) == saying("first")  # at once: it was not slow
    finally:
        await server.drain(0.1)
        await contexts.aclose()
