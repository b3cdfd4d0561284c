"""The chatloop service: everything is wired here."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from litestar import Litestar

from steersman_chatloop.attachments import FileCache
from steersman_chatloop.previews import Previews
from steersman_chatloop.providers.registry import Providers
from steersman_chatloop.served import ServedModelLists
from steersman_chatloop.settings import Settings
from steersman_chatloop.surroundings import Surroundings
from steersman_chatloop.titles import Titles
from steersman_chatloop.toolbox import Toolbox
from steersman_chatloop.warming import keep_warm
from steersman_chatloop.worker import Worker
from steersman_chatloop.workspace_context import WorkspaceContexts
from steersman_contracts.ids import RunnerId
from steersman_contracts.rpc.prompts import PREVIEW_PROMPT
from steersman_contracts.rpc.providers import LIST_SERVED_MODELS
from steersman_runtime.conditions import Conditions
from steersman_runtime.jetstream import Publisher
from steersman_runtime.rpc import RpcClient, RpcServer
from steersman_runtime.service import Runtime, create_service
from steersman_runtime.tasks import running


def create_app(runtime: Runtime, settings: Settings) -> Litestar:
    """Build the service; nothing runs before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            runner_id = RunnerId(f"{runtime.instance}-{secrets.token_hex(6)}")
            # By this name the store learns at once that the runner is gone.
            client = await stack.enter_async_context(runtime.nats(name=runner_id))
            rpc = RpcClient(client)
            providers = Providers(
                first_event_s=settings.first_event_timeout_s,
                idle_s=settings.idle_timeout_s,
            )
            stack.push_async_callback(providers.aclose)
            toolbox = Toolbox(rpc)
            stack.push_async_callback(toolbox.aclose)
            contexts = WorkspaceContexts(client)
            stack.push_async_callback(contexts.aclose)
            conditions = Conditions()
            stack.push_async_callback(conditions.aclose)
            around = Surroundings(
                client=client,
                rpc=rpc,
                publisher=Publisher(client),
                providers=providers,
                toolbox=toolbox,
                files=FileCache(rpc, max_bytes=settings.cached_file_bytes),
                contexts=contexts,
                conditions=conditions,
                settings=settings,
                runner_id=runner_id,
            )
            worker = Worker(client, around)
            warming = partial(keep_warm, client, rpc, providers.warm)
            tasks = ((worker.renew, "leases"), (worker.heed, "control"), (warming, "warming"))
            for work, name in tasks:
                await stack.enter_async_context(running(work, name=name, on_failure=runtime.fail))
            if settings.generate_titles:
                titles = Titles(client, rpc, providers)
                await stack.enter_async_context(
                    running(titles.run, name="titles", on_failure=runtime.fail)
                )
            stack.push_async_callback(worker.drain, settings.shutdown_timeout_s)
            server = RpcServer(client, "chatloop", version=runtime.version)
            server.add(LIST_SERVED_MODELS, ServedModelLists(rpc).list_models)
            server.add(PREVIEW_PROMPT, Previews(around).preview)
            await server.start()
            stack.push_async_callback(server.drain, 1.0)
            # Left first: a chat that is handed over must not come back to who hands it over.
            pulling = await stack.enter_async_context(
                running(worker.pull, name="work", on_failure=runtime.fail)
            )

            def take_no_more() -> None:
                pulling.cancel()
                worker.begin_drain()

            runtime.on_stop(take_no_more)
            yield

    return create_service(runtime, lifespan)
