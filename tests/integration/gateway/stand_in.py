"""A store of three dictionaries behind the real RPC: strict about who asks, scripted to fail."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import structlog

from steersman_contracts import subjects
from steersman_contracts.chats import (
    Chat,
    ChatSnapshot,
    Message,
    QueuedMessage,
    Role,
    Status,
)
from steersman_contracts.errors import Forbidden, NotFound, SteersmanError, Unauthenticated
from steersman_contracts.events import EVENT_HEADER, Event
from steersman_contracts.ids import (
    ChatId,
    MessageId,
    ModelName,
    ProviderId,
    QueuedId,
    UserId,
)
from steersman_contracts.parts import Parts
from steersman_contracts.rpc import (
    Actor,
    Method,
    Nothing,
    UserRole,
    chats,
    desktop,
    mcp,
    models,
    policies,
    prompts,
    providers,
    steering,
    tools,
    usage,
    users,
)
from steersman_contracts.rpc import identity as who
from steersman_gateway.auth import digest
from steersman_runtime.jetstream import Publisher, ensure_stream
from steersman_runtime.nats_client import NatsClient, close, connect, encode_headers
from steersman_runtime.rpc import RpcServer

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

MCP_ID = "01a00000-0000-7000-8000-00000000000f"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MODEL = ModelName("demo/plain")


def new_chat_id() -> ChatId:
    return ChatId(str(uuid.uuid4()))


@dataclass
class StoredChat:
    chat: Chat
    messages: list[Message] = field(default_factory=list[Message])
    queue: list[QueuedMessage] = field(default_factory=list[QueuedMessage])
    attempt_started_at: datetime | None = None


class StandInStore:
    """Answers what the gateway asks of the store, tools and desktop."""

    def __init__(self, client: NatsClient) -> None:
        self.client = client
        self.publisher = Publisher(client)
        self.chats: dict[ChatId, StoredChat] = {}
        self.identities: dict[str, who.Identity] = {}
        self.codes: dict[str, str] = {}
        self.asked: list[tuple[str, Any]] = []
        self.failures: dict[str, SteersmanError] = {}
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.contexts: list[dict[str, Any]] = []
        """What was bound to the logs while each request was answered."""
        self._ids = 0

    # -- what tests arrange ----------------------------------------------------------------------

    def reset(self) -> None:
        """Forget everything but users: a gateway remembers those for seconds."""
        self.chats.clear()
        self.codes.clear()
        self.asked.clear()
        self.contexts.clear()
        self.failures.clear()
        self.before.clear()

    def add_user(self, token: str, *, role: UserRole = "member") -> Actor:
        if (known := self.identities.get(digest(token))) is not None:
            return known.actor
        user_id = UserId(str(uuid.uuid4()))
        actor = Actor(user_id, role)
        user = who.User(user_id, token, role, NOW)
        self.identities[digest(token)] = who.Identity(actor, user)
        return actor

    def revoke(self, token: str) -> None:
        del self.identities[digest(token)]

    def add_chat(self, owner: Actor, **changes: Any) -> ChatId:
        chat = Chat(
            id=new_chat_id(),
            owner_id=owner.user_id,
            title="",
            model=MODEL,
            status=Status.WAITING,
            created_at=NOW,
            updated_at=NOW,
            snapshot_version=1,
            history_version=1,
        )
        self.chats[chat.id] = StoredChat(msgspec.structs.replace(chat, **changes))
        return chat.id

    def add_message(self, chat_id: ChatId, role: Role, parts: Parts) -> Message:
        stored = self.chats[chat_id]
        message = Message(MessageId(self._next()), role, parts, 1, NOW)
        stored.messages.append(message)
        return message

    def update(self, chat_id: ChatId, **changes: Any) -> None:
        stored = self.chats[chat_id]
        stored.chat = msgspec.structs.replace(stored.chat, **changes)

    async def publish(self, event: Event) -> int:
        """Put an event into the log; returns its sequence."""
        return await self.publish_raw(event.chat_id, event.name, msgspec.json.encode(event))

    async def publish_raw(self, chat_id: ChatId, name: str, payload: bytes) -> int:
        headers = encode_headers({EVENT_HEADER: name})
        return await self.publisher.publish(subjects.chat_events(chat_id), payload, headers=headers)

    async def publish_mine(self, owner: Actor, event: Event) -> int:
        """Put an event into a person's feed, as the relay does; returns its sequence."""
        headers = encode_headers({EVENT_HEADER: event.name})
        subject = subjects.my_events(owner.user_id)
        payload = msgspec.json.encode(event)
        return await self.publisher.publish(subject, payload, headers=headers)

    def asked_for(self, method: Method[Any, Any]) -> list[Any]:
        return [request for name, request in self.asked if name == method.name]

    # -- RPC -------------------------------------------------------------------------------------

    async def serve(self, *services: str) -> list[RpcServer]:
        servers = {
            name: RpcServer(self.client, name, version="0.0.0")
            for name in ("store", "tools", "desktop", "chatloop")
        }

        def answer(method: Method[Q, R], handler: Callable[[Q], R]) -> None:
            async def handle(request: Q) -> R:
                self.asked.append((method.name, request))
                self.contexts.append(structlog.contextvars.get_contextvars())
                if (wait := self.before.get(method.name)) is not None:
                    await wait()
                if (failure := self.failures.get(method.name)) is not None:
                    raise failure
                return handler(request)

            servers[method.service].add(method, handle)

        answer(who.AUTHENTICATE, self._authenticate)
        answer(who.REDEEM_SIGN_IN, self._redeem)
        answer(chats.CREATE, self._create)
        answer(chats.GET, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.LIST, self._list)
        answer(chats.UPDATE, self._update)
        answer(chats.DELETE, self._delete)
        answer(chats.LIST_MESSAGES, self._messages)
        answer(chats.SEND_MESSAGE, self._send)
        answer(chats.INTERRUPT, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.SNAPSHOT, self._snapshot)
        answer(chats.EDIT_MESSAGE, self._edit)
        answer(chats.SUBMIT_TOOL_RESULTS, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.ARCHIVE, self._archive)
        answer(chats.RESOLVE_APPROVAL, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.CLEAR_CONTEXT, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.REQUEST_COMPACTION, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.UNDO_COMPACTION, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.REORDER_QUEUE, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.EDIT_QUEUED, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.DELETE_QUEUED, lambda q: self._reply(q.actor, q.chat_id))
        answer(chats.PROMOTE_QUEUED, lambda q: self._reply(q.actor, q.chat_id))
        answer(models.LIST_MODELS, lambda _: models.ModelList((_model(),)))
        answer(models.LIST_PROVIDERS, lambda _: models.ProviderList((_provider("demo"),)))
        answer(models.PUT_MODEL, lambda q: models.ModelReply(_model(q.model_id)))
        answer(models.PUT_PROVIDER, lambda q: models.ProviderReply(_provider(q.id)))
        answer(models.DELETE_PROVIDER, self._delete_provider)
        answer(policies.GET, lambda q: policies.Policy(q.level, (), 0))
        answer(policies.PUT, lambda q: policies.Policy(q.level, q.rules, 1))
        answer(policies.DRY_RUN, lambda _: policies.DryRunReport((), 0))
        answer(policies.LIST_GRANTS, lambda _: policies.GrantPage((), has_more=False))
        answer(policies.REVOKE_GRANT, lambda _: Nothing())
        answer(policies.LIST_AUDIT, lambda _: policies.AuditPage((), has_more=False))
        answer(steering.ANSWER_QUESTION, lambda q: self._reply(q.actor, q.chat_id))
        answer(steering.DECIDE_PLAN, lambda q: self._reply(q.actor, q.chat_id))
        answer(steering.SET_LIMITS, lambda q: self._reply(q.actor, q.chat_id))
        answer(prompts.GET_PROMPT, lambda _: prompts.Prompt("Be kind."))
        answer(prompts.PUT_PROMPT, lambda q: prompts.Prompt(q.text, q.compaction_threshold))
        answer(prompts.LIST_SKILLS, lambda _: prompts.SkillList(()))
        answer(prompts.GET_SKILL, lambda q: prompts.Skill(q.name, "For tides.", "Look.", NOW))
        answer(prompts.PUT_SKILL, lambda q: prompts.Skill(q.name, q.description, q.text, NOW))
        answer(prompts.DELETE_SKILL, lambda _: Nothing())
        answer(prompts.PREVIEW_PROMPT, lambda _: prompts.PromptPreview((), "", ()))
        answer(models.PATCH_PROVIDER, lambda q: models.ProviderReply(_provider(q.id)))
        answer(models.PATCH_MODEL, lambda q: models.ModelReply(_model(q.name.split("/", 1)[1])))
        answer(models.DELETE_MODEL, lambda _: Nothing())
        answer(models.REFRESH_PRICES, lambda _: models.ModelList(()))
        answer(
            usage.GET_USAGE, lambda q: usage.UsageReport(q.group_by, usage.UsageSum(steps=1), ())
        )
        answer(users.CREATE_USER, lambda q: users.SignIn(_account(q.name), "a-code", NOW))
        answer(users.LIST_USERS, lambda _: users.UserList((_account("Zoe"),)))
        answer(users.UPDATE_USER, lambda _: users.UserReply(_account("Zoe")))
        answer(users.NEW_SIGN_IN, lambda _: users.SignIn(_account("Zoe"), "a-code", NOW))
        answer(
            providers.LIST_SERVED_MODELS,
            lambda _: providers.ServedModels("fetch_failed", "It does not answer."),
        )
        answer(
            tools.LIST_TOOLS,
            lambda _: tools.Catalog("host", (), (tools.PluginReport("files", "1"),)),
        )
        answer(
            tools.ASK_PLUGIN,
            lambda q: tools.PluginAnswer(
                {"url": f"https://there.example?back={q.body['redirect_uri']}"}
                if q.question == "begin_login"
                else {"server_id": MCP_ID}
            ),
        )
        answer(mcp.LIST_MCP_SERVERS, lambda _: mcp.McpServerList((_mcp_server(),)))
        answer(mcp.GET_MCP_SERVER, lambda _: _mcp_server())
        answer(mcp.CREATE_MCP_SERVER, lambda q: _mcp_server(q.settings.slug))
        answer(mcp.CHANGE_MCP_SERVER, lambda _: _mcp_server())
        answer(mcp.DELETE_MCP_SERVER, lambda _: Nothing())
        answer(mcp.SIGN_OUT, lambda _: _mcp_server())
        answer(desktop.GET_DESKTOP, lambda q: desktop.Desktop(q.chat_id, "ready"))
        chosen = [server for name, server in servers.items() if name in services]
        for server in chosen:
            await server.start()
        return chosen

    def _mine(self, actor: Actor, chat_id: ChatId) -> StoredChat:
        stored = self.chats.get(chat_id)
        if stored is None or stored.chat.owner_id != actor.user_id:
            raise NotFound("there is no such chat")
        return stored

    def _reply(self, actor: Actor, chat_id: ChatId) -> chats.ChatReply:
        return chats.ChatReply(self._mine(actor, chat_id).chat)

    def _authenticate(self, request: who.Authenticate) -> who.Identity:
        if request.token_digest not in self.identities:
            raise Unauthenticated("unknown token")
        return self.identities[request.token_digest]

    def _redeem(self, request: who.RedeemSignIn) -> who.NewToken:
        if (token := self.codes.pop(request.code_digest, None)) is None:
            raise NotFound("no such code")
        return who.NewToken(token)

    def _create(self, request: chats.CreateChat) -> chats.SendReply:
        chat_id = self.add_chat(request.actor, title=request.title)
        message = None
        if request.parts:
            message = self.add_message(chat_id, Role.USER, request.parts)
        return chats.SendReply("started", self.chats[chat_id].chat, message)

    def _list(self, request: chats.ListChats) -> chats.ChatPage:
        mine = sorted(
            (s.chat for s in self.chats.values() if s.chat.owner_id == request.actor.user_id),
            key=lambda chat: (chat.updated_at, chat.id),
            reverse=True,
        )
        if request.before is not None:
            mine = [chat for chat in mine if (chat.updated_at, chat.id) < request.before]
        page = mine[: request.limit]
        more = len(mine) > len(page)
        return chats.ChatPage(tuple(page), (page[-1].updated_at, page[-1].id) if more else None)

    def _update(self, request: chats.UpdateChat) -> chats.ChatReply:
        self._mine(request.actor, request.chat_id)
        if request.title is not None:
            self.update(request.chat_id, title=request.title)
        return chats.ChatReply(self.chats[request.chat_id].chat)

    def _delete(self, request: chats.DeleteChat) -> Nothing:
        self._mine(request.actor, request.chat_id)
        del self.chats[request.chat_id]
        return Nothing()

    def _messages(self, request: chats.ListMessages) -> chats.MessagePage:
        messages = self._mine(request.actor, request.chat_id).messages
        return chats.MessagePage(tuple(messages[: request.limit]), len(messages) > request.limit)

    def _send(self, request: chats.SendMessage) -> chats.SendReply:
        stored = self._mine(request.actor, request.chat_id)
        if stored.chat.status is Status.RUNNING:
            queued = QueuedMessage(QueuedId(self._next()), request.parts, NOW)
            stored.queue.append(queued)
            return chats.SendReply("queued", stored.chat, queued=queued)
        message = self.add_message(request.chat_id, Role.USER, request.parts)
        return chats.SendReply("started", stored.chat, message)

    def _edit(self, request: chats.EditMessage) -> chats.SendReply:
        stored = self._mine(request.actor, request.chat_id)
        message = self.add_message(request.chat_id, Role.USER, request.parts)
        return chats.SendReply("started", stored.chat, message)

    def _archive(self, request: chats.ArchiveChat) -> chats.ChatReply:
        self._mine(request.actor, request.chat_id)
        self.update(request.chat_id, archived=request.archived)
        return chats.ChatReply(self.chats[request.chat_id].chat)

    def _snapshot(self, request: chats.Snapshot) -> chats.SnapshotReply:
        stored = self._mine(request.actor, request.chat_id)
        snapshot = ChatSnapshot(stored.chat, tuple(stored.messages), queue=tuple(stored.queue))
        return chats.SnapshotReply(snapshot, stored.attempt_started_at)

    def _delete_provider(self, request: models.DeleteProvider) -> Nothing:
        if request.actor.role != "admin":
            raise Forbidden("only an admin may do that")
        return Nothing()

    def _next(self) -> int:
        self._ids += 1
        return self._ids


def _model(model_id: str = "plain") -> models.Model:
    return models.Model(
        ModelName(f"demo/{model_id}"), ProviderId("demo"), model_id, "Plain", enabled=True
    )


def _account(name: str) -> users.Account:
    return users.Account(UserId("00000000-0000-4000-8000-000000000001"), name, "member", NOW)


def _mcp_server(slug: str = "there") -> mcp.McpServer:
    return mcp.McpServer(
        MCP_ID, slug, "", "http", shared=False, created_at=NOW, version=1, auth="oauth"
    )


def _provider(provider_id: str) -> models.Provider:
    return models.Provider(
        ProviderId(provider_id), "demo", "Demo", None, has_key=False, enabled=True
    )


async def make_log(client: NatsClient, **changes: Any) -> None:
    """Create the event log as the store does."""
    config: dict[str, Any] = {
        "name": subjects.EVENT_STREAM,
        "subjects": [subjects.EVENT_SUBJECTS],
        "storage": "file",
        "allow_direct": True,
        "republish": {
            "src": subjects.EVENT_REPUBLISH_SOURCE,
            "dest": subjects.EVENT_REPUBLISH_TARGET,
        },
    }
    await ensure_stream(client, config | changes)


@asynccontextmanager
async def stand_in_store(
    nats_url: str, services: tuple[str, ...] = ("store", "tools", "desktop", "chatloop")
) -> AsyncGenerator[StandInStore]:
    client = await connect(
        nats_url, name="store/test", inbox_prefix="_INBOX_store", on_closed=lambda: None
    )
    try:
        await make_log(client)
        store = StandInStore(client)
        servers = await store.serve(*services)
        yield store
        for server in servers:
            await server.drain(1)
    finally:
        await close(client)
