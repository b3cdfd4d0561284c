"""What every turn needs, and how a chat's history is read."""

from __future__ import annotations

from dataclasses import dataclass

from steersman_chatloop.attachments import FileCache
from steersman_chatloop.history import History
from steersman_chatloop.providers.registry import Providers
from steersman_chatloop.settings import Settings
from steersman_chatloop.toolbox import Toolbox
from steersman_chatloop.workspace_context import WorkspaceContexts
from steersman_contracts.ids import RunnerId
from steersman_contracts.rpc import worker as rpc
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import NatsClient
from steersman_runtime.rpc import RpcClient


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every turn needs."""

    client: NatsClient
    rpc: RpcClient
    publisher: Publisher
    providers: Providers
    toolbox: Toolbox
    files: FileCache
    contexts: WorkspaceContexts
    settings: Settings
    runner_id: RunnerId


async def load(around: Surroundings, history: History, context: rpc.WorkContext) -> None:
    """Take in the messages of a context, and page through the rest if they did not fit."""
    history.apply(context.messages)
    page_messages, complete = context.messages, context.complete
    while not complete:
        last = page_messages[-1]
        page = await around.rpc.call(
            rpc.LOAD_HISTORY,
            rpc.LoadHistory(context.chat.chat_id, around.runner_id, (last.revision, int(last.id))),
        )
        history.apply(page.messages)
        page_messages, complete = page.messages, page.complete
        if not page_messages:
            return
