"""What every turn needs, and how a chat's history is read."""

from __future__ import annotations

from dataclasses import dataclass

from steersman_chatloop.asking import ask
from steersman_chatloop.attachments import FileCache
from steersman_chatloop.history import History
from steersman_chatloop.providers.registry import Providers
from steersman_chatloop.settings import Settings
from steersman_chatloop.toolbox import Toolbox
from steersman_chatloop.workspace_context import WorkspaceContexts
from steersman_contracts.ids import ChatId, RunnerId
from steersman_contracts.rpc import worker as rpc
from steersman_runtime.conditions import Conditions
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
    conditions: Conditions
    settings: Settings
    runner_id: RunnerId


async def load(around: Surroundings, history: History, context: rpc.WorkContext) -> None:
    """Take in the messages of a context, and page through the rest if they did not fit.

    A history that began at a boundary which was taken back is read from the store once more.

    Raises:
        Unavailable: The store was away for as long as anybody waits for it.
        DeadlineExceeded: The same, and it was too slow last.
        StaleFence: The chat is somebody else's.
    """
    history.apply(context.messages)
    chat_id = context.chat.chat_id
    if not context.complete:
        last = context.messages[-1]
        await _read_on(around, history, chat_id, (last.revision, int(last.id)))
    while history.torn:  # again, if a person takes another one back meanwhile
        history.forget()
        await _read_on(around, history, chat_id, (0, 0))


async def _read_on(
    around: Surroundings, history: History, chat_id: ChatId, after: tuple[int, int]
) -> None:
    while True:
        request = rpc.LoadHistory(chat_id, around.runner_id, after)
        page = await ask(
            around.rpc, rpc.LOAD_HISTORY, request, within_s=around.settings.store_timeout_s
        )
        history.apply(page.messages)
        if page.complete or not page.messages:
            return
        last = page.messages[-1]
        after = (last.revision, int(last.id))
