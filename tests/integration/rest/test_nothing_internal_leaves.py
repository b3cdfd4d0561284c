"""What providers get back, and bytes that have a file id, leave by no route and in no event.

The table below names every operation of the OpenAPI document: a new one fails the first test until
somebody has said how it is called on a chat that is full of secrets.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from integration.gateway.driver import watching
from integration.rest.conftest import ALICE
from integration.rest.stories import (
    CHAT,
    CONTENT,
    DESKTOP,
    MCP,
    MODEL,
    PROVIDER,
    QUEUED,
    RECORDING,
    SERVED,
    TEMPLATES,
    WORKSPACE,
)
from integration.store.test_files import part as file_part
from integration.store.test_files import send, upload
from support.chat_driver import StoreDriver

from steersman_chatloop.episode import Episode
from steersman_contracts import subjects
from steersman_contracts.chats import ClientTool, Role
from steersman_contracts.deltas import PartAdded, TextDelta
from steersman_contracts.events import MessageCreated
from steersman_contracts.ids import ChatId
from steersman_contracts.parts import (
    FilePart,
    Part,
    ProviderMetadata,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import models as models_rpc
from steersman_contracts.rpc import worker as work
from steersman_contracts.rpc.mcp import CREATE_MCP_SERVER, CreateMcpServer, McpSettings
from steersman_gateway.openapi import build_document
from steersman_runtime.jetstream import Publisher
from steersman_runtime.nats_client import NatsClient

_WORD = "open-sesame"
_BYTES = b"bytes-of-sesame!"[:15]  # a multiple of three: its base64 is the same wherever it is
KEY = "key-of-sesame"
PLANTED = (_WORD.encode(), base64.b64encode(_BYTES), _BYTES, KEY.encode())

SECRET = ProviderMetadata("anthropic", account=_WORD, model=_WORD, native={"signature": _WORD})
NO_FILE = "00000000-0000-4000-8000-000000000000"
STORED = FilePart("image/png", "sea.png", NO_FILE, _BYTES, SECRET)


def result(call_id: str, tool: str, *, provider: bool = False) -> ToolResultPart:
    return ToolResultPart(
        call_id,
        tool,
        (TextPart("seen", SECRET), STORED),
        provider_executed=provider,
        provider_metadata=SECRET,
    )


ANSWER: tuple[Part, ...] = (
    ReasoningPart("hm", SECRET),
    TextPart("I look", SECRET),
    SourcePart("http://sea", "Sea", SECRET),
    STORED,
    ToolCallPart("s1", "web_search", {}, provider_executed=True, provider_metadata=SECRET),
    result("s1", "web_search", provider=True),
)
SERVER_CALL = ToolCallPart("c1", "look", {}, provider_metadata=SECRET)
CLIENT_CALL = ToolCallPart("c2", "ask", {}, provider_metadata=SECRET)


@dataclass(frozen=True)
class Planted:
    """A chat full of secrets that waits for its client, with one message in its queue."""

    chat_id: ChatId
    first_id: int
    queued_id: int
    file_id: str


async def answered(store: StoreDriver, *, file: bool = True) -> tuple[people.SendReply, str]:
    """A resting chat whose history is full of secrets."""
    stored = await upload(store) if file else None
    parts = (TextPart("look", SECRET),) if stored is None else (TextPart("look"), file_part(stored))
    tools = (ClientTool("ask", "Ask.", {"type": "object"}),)
    request = people.CreateChat(store.actor, parts=parts, client_tools=tools)
    made = await store.rpc.call(people.CREATE, request)
    chat_id = made.chat.id
    await store.acquire(chat_id)
    step = work.NewMessage(Role.ASSISTANT, (*ANSWER, SERVER_CALL), stop="tool-calls")
    results = work.NewMessage(Role.TOOL, (result("c1", "look"),))
    await store.commit(await store.fence(chat_id), step)
    await store.commit(await store.fence(chat_id), results)
    await store.finish(await store.fence(chat_id), work.NewMessage(Role.ASSISTANT, ANSWER))
    return made, stored.id if stored else ""


async def planted(store: StoreDriver) -> Planted:
    made, file_id = await answered(store)
    chat_id = made.chat.id
    await store.send(chat_id, "again")
    await store.acquire(chat_id)
    calls = work.NewMessage(Role.ASSISTANT, (SERVER_CALL, CLIENT_CALL), stop="tool-calls")
    await store.commit(await store.fence(chat_id), calls)
    await store.require_action(
        await store.fence(chat_id), SERVER_CALL, CLIENT_CALL, results=(result("c1", "look"),)
    )
    await send(store, chat_id, TextPart("later", SECRET))
    (queued_id,) = await store.queued_ids(chat_id)
    assert made.message is not None
    return Planted(chat_id, made.message.id, queued_id, file_id)


STORED_CALL = {
    "type": "text",
    "text": "I look",
    "provider_metadata": {"origin": "anthropic", "native": _WORD},
}
RULES = {"rules": [{"decision": "ask", "tool": "execute"}]}
# (method, path) → the body, and whether the chat has to rest.
ROUTES: dict[tuple[str, str], tuple[Any, bool]] = {
    ("get", "/api/v1/version"): (None, False),
    ("get", "/api/v1/me"): (None, False),
    ("get", "/api/v1/tools"): (None, False),
    ("get", "/api/v1/models"): (None, False),
    ("put", "/api/v1/models"): ({"provider_id": "lab", "model_id": "m"}, False),
    ("get", "/api/v1/providers"): (None, False),
    ("put", PROVIDER): ({"type": "anthropic"}, False),
    ("get", "/api/v1/chats"): (None, False),
    ("post", "/api/v1/chats"): ({"text": "hi", "model": "demo/echo"}, False),
    ("post", "/api/v1/chats/import"): (
        {"messages": [{"role": "assistant", "content": [STORED_CALL], "content_version": 1}]},
        False,
    ),
    ("put", "/api/v1/chats/import/messages"): (
        {"client_key": "k", "first": 0, "messages": [{"role": "system", "content": "x"}]},
        False,
    ),
    ("get", CHAT): (None, False),
    ("patch", CHAT): ({"title": "Sea"}, False),
    ("delete", CHAT): (None, False),
    ("post", CHAT + "/archive"): ({}, True),
    ("post", CHAT + "/unarchive"): ({}, True),
    ("post", CHAT + "/clear-context"): ({}, True),
    ("post", CHAT + "/interrupt"): ({}, False),
    ("post", CHAT + "/tool-results"): ({"results": [{"call_id": "c2", "text": "yes"}]}, False),
    ("get", CHAT + "/messages"): (None, False),
    ("post", CHAT + "/messages"): ({"text": "more"}, True),
    ("patch", CHAT + "/messages/{message_id}"): ({"text": "rather"}, False),
    ("put", CHAT + "/queue"): ({"queued_ids": ["{queued_id}"]}, False),
    ("patch", QUEUED): ({"text": "other"}, False),
    ("delete", QUEUED): (None, False),
    ("post", QUEUED + "/promote"): ({}, False),
    ("post", CHAT + "/fork"): ({"message_id": "{message_id}"}, False),
    ("put", CHAT + "/labels"): ({"labels": {"a": "b"}}, False),
    ("post", CHAT + "/read"): ({}, False),
    ("put", CHAT + "/pin"): ({}, False),
    ("delete", CHAT + "/pin"): (None, False),
    ("post", CHAT + "/title/regenerate"): ({}, False),
    ("get", CHAT + "/files"): (None, False),
    ("get", CHAT + "/desktop"): (None, False),
    ("get", CHAT + "/events"): (None, False),  # below: it does not end
    ("post", "/api/v1/files"): (None, False),
    ("get", "/api/v1/files/{file_id}"): (None, False),
    ("delete", "/api/v1/files/{file_id}"): (None, False),
    ("get", "/api/v1/events"): (None, False),  # as the events of a chat
    ("post", CHAT + "/compact"): ({}, True),
    ("post", CHAT + "/compact/undo"): ({}, True),
    ("post", CHAT + "/approvals/{call_id}"): ({"approved": True}, False),
    ("get", CHAT + "/policy"): (None, False),
    ("put", CHAT + "/policy"): (RULES, False),
    ("post", CHAT + "/policy/dry-run"): (RULES, False),
    ("get", "/api/v1/policies/system"): (None, False),
    ("put", "/api/v1/policies/system"): (RULES, False),
    ("get", "/api/v1/policies/user"): (None, False),
    ("put", "/api/v1/policies/user"): (RULES, False),
    ("get", "/api/v1/grants"): (None, False),
    ("delete", "/api/v1/grants"): (None, False),
    ("get", "/api/v1/audit"): (None, False),
    ("get", "/api/v1/usage"): (None, False),
    ("get", "/api/v1/prompt"): (None, False),
    ("put", "/api/v1/prompt"): ({"text": "Be kind."}, False),
    ("get", "/api/v1/me/instructions"): (None, False),
    ("put", "/api/v1/me/instructions"): ({"text": "Be brief."}, False),
    ("get", CHAT + "/prompt"): (None, False),
    ("post", CHAT + "/answers"): ({"answers": [{"selected": ["yes"]}]}, False),
    ("post", CHAT + "/plan/approve"): ({}, True),
    ("post", CHAT + "/plan/reject"): ({}, True),
    ("put", CHAT + "/limits"): ({"steps": 5}, False),
    ("get", "/api/v1/skills"): (None, False),
    ("put", "/api/v1/skills/{skill}"): ({"description": "Tides.", "text": "Look."}, False),
    ("get", "/api/v1/skills/{skill}"): (None, False),
    ("delete", "/api/v1/skills/{skill}"): (None, False),
    ("post", "/api/v1/prices"): (None, False),
    ("patch", PROVIDER): ({"display_name": "Lab"}, False),
    ("get", PROVIDER + "/models"): (None, False),
    ("patch", MODEL): ({"tools": False}, False),
    ("delete", MODEL): (None, False),
    ("get", "/api/v1/users"): (None, False),
    ("post", "/api/v1/users"): ({"name": "zoe"}, False),
    ("patch", "/api/v1/users/{user_id}"): ({"role": "admin"}, False),
    ("post", "/api/v1/users/{user_id}/sign-in"): (None, False),
    ("get", "/api/v1/plugins"): (None, False),
    ("post", "/api/v1/plugins/reload"): (None, False),
    ("put", "/api/v1/plugins/{plugin}/settings"): ({"settings": {"a": 1}}, False),
    ("put", "/api/v1/plugins/{plugin}/secrets/{key}"): ({"value": KEY}, False),
    ("delete", "/api/v1/plugins/{plugin}/secrets/{key}"): (None, False),
    ("get", "/api/v1/mcp-servers"): (None, False),
    ("post", "/api/v1/mcp-servers"): (
        {"slug": "other", "url": "https://mcp.example", "auth": "api_key", "api_key": KEY},
        False,
    ),
    ("patch", MCP): ({"name": "Sea", "api_key": KEY}, False),
    ("post", MCP + "/login"): ({}, False),
    ("delete", MCP + "/login"): (None, False),
    ("delete", MCP): (None, False),
    ("post", "/api/v1/mcp-servers/finish-login"): (
        {"state": "{state}", "code": "{code}", "iss": "{iss}"},
        False,
    ),
    ("get", CHAT + "/tools"): (None, False),
    ("put", DESKTOP): ({}, False),
    ("delete", DESKTOP): (None, False),
    ("get", DESKTOP + "/screenshot"): (None, False),
    ("post", DESKTOP + "/actions"): ({"action": "screenshot"}, False),
    ("post", DESKTOP + "/control"): ({}, False),
    ("delete", DESKTOP + "/control"): (None, False),
    ("post", DESKTOP + "/ticket"): ({}, False),
    ("get", TEMPLATES): (None, False),
    ("get", TEMPLATES + "/{template_id}"): (None, False),
    ("get", "/api/v1/workspaces"): (None, False),
    ("post", "/api/v1/workspaces"): ({"template_id": "default"}, False),
    ("get", WORKSPACE): (None, False),
    ("delete", WORKSPACE): (None, False),
    ("post", WORKSPACE + "/start"): (None, False),
    ("post", WORKSPACE + "/stop"): (None, False),
    ("get", WORKSPACE + "/diff"): (None, False),
    ("get", WORKSPACE + "/files"): (None, False),
    ("get", CONTENT): (None, False),
    ("put", CONTENT): (None, False),
    ("put", CHAT + "/workspace"): ({"workspace_id": None}, False),
    ("patch", DESKTOP): ({"width": 800, "height": 600}, False),
    ("get", DESKTOP + "/clipboard"): (None, False),
    ("put", DESKTOP + "/clipboard"): ({"text": "x"}, False),
    ("get", DESKTOP + "/files"): (None, False),
    ("get", DESKTOP + "/files/content"): (None, False),
    ("put", DESKTOP + "/files/content"): (None, False),
    ("get", DESKTOP + "/server"): (None, False),
    ("put", DESKTOP + "/server"): ({"address": "127.0.0.1:5900", "password": _WORD}, False),
    ("delete", DESKTOP + "/server"): (None, False),
    ("post", DESKTOP + "/recordings"): (None, False),
    ("get", DESKTOP + "/recordings"): (None, False),
    ("get", RECORDING): (None, False),
    ("delete", RECORDING): (None, False),
    ("post", RECORDING + "/stop"): (None, False),
    ("get", RECORDING + "/frames/{number}"): (None, False),
    ("get", RECORDING + "/download"): (None, False),
    ("delete", PROVIDER): (None, False),
}
# What cannot succeed on such a chat, where the services run that do not know chats.
OTHERWISE = {
    ("post", CHAT + "/answers"): 404,  # nobody asks
    ("post", CHAT + "/plan/approve"): 409,  # there is no plan
    ("post", CHAT + "/plan/reject"): 409,
    ("post", CHAT + "/compact/undo"): 409,  # there is no summary
    ("post", CHAT + "/approvals/{call_id}"): 404,  # nobody is asked about this one
    ("delete", "/api/v1/grants"): 400,  # no tool is named
    ("post", CHAT + "/title/regenerate"): 409,  # the demo finds no titles
    ("post", "/api/v1/files"): 201,
}


def clean(content: bytes) -> bool:
    return not any(secret in content for secret in PLANTED)


def test_every_operation_is_in_the_table() -> None:
    document = build_document("1")
    operations = {(method, path) for path, item in document["paths"].items() for method in item}

    assert operations == set(ROUTES)
    assert OTHERWISE.keys() <= operations - SERVED


TOLD = (
    *(
        f"{subjects.ROOT}.{kind}.>"
        for kind in ("ev", "live", "work", "desk", "ctl", "relay", "tools")
    ),
    subjects.TOOLSET_BEATS,
    subjects.TOOLSET_CATALOGS,
    subjects.UNNAMED_CHATS,
    subjects.PROVIDERS_CHANGED,
)
"""Whatever is told without an answer. Requests are left out: some carry what only their service may
know, and who listens to them passes for somebody who answers."""


class Wiretap:
    """What is told, byte for byte."""

    def __init__(self, client: NatsClient) -> None:
        self.heard: list[bytes] = []
        for subject in TOLD:
            client.listen(subject, lambda _, __, headers, body: self.heard.append(headers + body))


@pytest_asyncio.fixture(loop_scope="module")
async def admin(alice: httpx2.AsyncClient, store: StoreDriver, database_url: str) -> None:
    """Alice, with a provider whose key is a secret."""
    del alice
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE users SET role = 'admin'")
    finally:
        await connection.close()
    owner = Actor(store.actor.user_id, "admin")
    put = models_rpc.PutProvider(owner, "lab", "anthropic", "Lab", None, KEY)
    await store.rpc.call(models_rpc.PUT_PROVIDER, put)


def filled(value: Any, ids: dict[str, Any]) -> Any:
    """The value with `"{name}"` replaced."""
    match value:
        case str() if value.startswith("{"):
            return ids[value[1:-1]]
        case list():
            return [filled(item, ids) for item in value]  # pyright: ignore[reportUnknownVariableType]  # any JSON
        case dict():
            return {key: filled(item, ids) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]  # any JSON
        case _:
            return value


@pytest.mark.timeout(600)  # every route there is
@pytest.mark.usefixtures("admin")
async def test_no_route_and_no_event_shows_what_is_internal(
    alice: httpx2.AsyncClient, store: StoreDriver, client: NatsClient
) -> None:
    tap = Wiretap(client)
    owner = Actor(store.actor.user_id, "admin")
    settings = McpSettings(slug="lab", url="https://a.example", auth="api_key", api_key=KEY)
    server = await store.rpc.call(CREATE_MCP_SERVER, CreateMcpServer(owner, settings))
    replies: list[str] = []
    looked_at = await planted(store)  # by all that change nothing

    async def ask(method: str, path: str) -> None:
        body, rests = ROUTES[method, path]
        chat = looked_at if method == "get" else await planted(store)
        if rests:
            chat = replace(chat, chat_id=(await answered(store, file=False))[0].chat.id)
        if path.endswith("/unarchive"):
            await store.archive(chat.chat_id)
        ids = {
            "chat_id": chat.chat_id,
            "message_id": chat.first_id,
            "queued_id": chat.queued_id,
            "file_id": chat.file_id,
            "provider_id": "lab",
            "model_id": "m",
            "user_id": store.actor.user_id,
            "call_id": "c2",
            "plugin": "glossary",
            "skill": "tides",
            "recording_id": "20261123T000000-00000000",
            "key": "token",
            "template_id": "default",
            "workspace_id": chat.chat_id,
            "server_id": server.id,
        }
        content = {"content": b"hello"} if path == "/api/v1/files" else {}
        if body is not None:
            content = {"json": filled(body, ids)}
        reply = await alice.request(method, path.format_map(ids), **content)  # pyright: ignore[reportArgumentType]  # either

        expected = OTHERWISE.get((method, path))
        assert reply.status_code == expected if expected else reply.is_success, (path, reply.text)
        assert clean(reply.content), (method, path)
        assert clean(str(reply.headers).encode()), (method, path)
        replies.append(reply.text)

    routes = [route for route in ROUTES if not route[1].endswith("/events") and route not in SERVED]
    for route in routes:
        await ask(*route)
    assert any("I look" in text for text in replies), "the chat that was shown was the planted one"
    # An event of the last chat that is seen through the relay: all before it were relayed too.
    last = await store.create("the end")
    await store.log.until(last.id, MessageCreated)
    assert len(tap.heard) > 100
    assert [heard for heard in tap.heard if not clean(heard)] == []


@asynccontextmanager
async def streaming(
    store: StoreDriver, client: NatsClient
) -> AsyncGenerator[tuple[ChatId, Episode]]:
    """A chat whose running episode streams parts that are full of secrets."""
    made, _ = await answered(store)
    chat_id = made.chat.id
    await store.send(chat_id, "again")
    await store.acquire(chat_id)
    fence = await store.fence(chat_id)
    begun = await store.begin(fence)
    episode = Episode(
        Publisher(client),
        chat_id,
        history_version=fence.history_version,
        attempt=begun.attempt,
        interval_s=0,
    )
    for index, part in enumerate(ANSWER):
        if isinstance(part, SourcePart | FilePart | ToolResultPart):
            episode.add(PartAdded(index, part))
        else:
            episode.add(TextDelta(index, "word"))
    await episode.flush()
    yield chat_id, episode


@pytest.mark.usefixtures("admin")
async def test_no_stream_shows_what_is_internal(
    alice: httpx2.AsyncClient, store: StoreDriver, client: NatsClient
) -> None:
    tap = Wiretap(client)
    async with streaming(store, client) as (chat_id, episode), watching(alice, chat_id) as live:
        sync = await live.next()
        assert len(sync.body["snapshot"]["preview"]["parts"]) == len(ANSWER)
        episode.add(PartAdded(len(ANSWER), SourcePart("http://last", "Last", SECRET)))
        await episode.flush()
        delta = await live.next()
        step = work.NewMessage(Role.ASSISTANT, (*ANSWER, SERVER_CALL, CLIENT_CALL))
        fence = await store.fence(chat_id)
        await store.commit(fence, step)
        fence = await store.fence(chat_id)
        await store.require_action(fence, SERVER_CALL, CLIENT_CALL, results=(result("c1", "look"),))
        await store.submit(chat_id, {"c2": "yes"})
        seen = [sync, delta, *await live.until("action.required")]
        seen += await live.until("message.created")
    async with watching(alice, chat_id, after=f"{sync.id.partition('.')[0]}.1") as again:
        resumed = [await again.next()]
        while resumed[-1].id != seen[-1].id:
            resumed.append(await again.next())

    assert {"part.delta", "message.created", "action.required"} <= {event.name for event in resumed}
    for event in (*seen, *resumed):
        assert clean(event.data), event.name
    assert [heard for heard in tap.heard if not clean(heard)] == []
    assert ALICE.encode() not in b"".join(event.data for event in resumed)
