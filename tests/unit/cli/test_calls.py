"""Every operation of the API has a method of the client, and every method is one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import httpx2
import msgspec
import pytest
from unit.cli.chat_log import new_chat
from unit.cli.test_stream import Connection

from steersman.client import ApiProblem, ChatsView, Client, Listed, Received
from steersman.client.exchange import Exchange
from steersman_contracts.chats import Status
from steersman_contracts.feed import ChatsSnapshot, FeedSync
from steersman_contracts.ids import ChatId, QueuedId
from steersman_contracts.questions import Answer
from steersman_contracts.rest import (
    ChangeMcpServerBody,
    CreateChatBody,
    CreateMcpServerBody,
    CreateUserBody,
    EditMessageBody,
    EditQueuedBody,
    FinishMcpLoginBody,
    ImportChatBody,
    PatchModelBody,
    PatchProviderBody,
    PatchUserBody,
    Problem,
    PutModelBody,
    PutProviderBody,
    RuleInput,
    SendMessageBody,
    StageImportBody,
    ToolResultInput,
    UpdateChatBody,
)
from steersman_contracts.rest_desktop import DesktopActionBody
from steersman_contracts.rest_prompts import InstructionsBody, LimitsBody, SkillInput
from steersman_contracts.rest_workspaces import CreateWorkspaceBody
from steersman_gateway.openapi import build_document

CHAT = ChatId("01a00000-0000-7000-8000-000000000000")
FORM = PutProviderBody("demo")
RECORDING = "20261123T000000-00000000"
Call = Callable[[Client], Awaitable[object]]


async def _first_event(events: AsyncGenerator[Received | Listed]) -> None:
    async with aclosing(events) as stream:
        await anext(stream)


CALLS: dict[str, Call] = {
    "getVersion": lambda c: c.version(),
    "getMe": lambda c: c.me(),
    "listTools": lambda c: c.tools(),
    "createChat": lambda c: c.create_chat(CreateChatBody(text="x")),
    "listChats": lambda c: c.list_chats(),
    "getChat": lambda c: c.get_chat(CHAT),
    "updateChat": lambda c: c.update_chat(CHAT, UpdateChatBody(title="t")),
    "deleteChat": lambda c: c.delete_chat(CHAT),
    "interruptChat": lambda c: c.interrupt(CHAT),
    "submitToolResults": lambda c: c.submit_tool_results(CHAT, (ToolResultInput("1", "x"),)),
    "archiveChat": lambda c: c.archive(CHAT),
    "unarchiveChat": lambda c: c.unarchive(CHAT),
    "clearContext": lambda c: c.clear_context(CHAT),
    "listMessages": lambda c: c.list_messages(CHAT),
    "sendMessage": lambda c: c.send_message(CHAT, SendMessageBody(text="x")),
    "editMessage": lambda c: c.edit_message(CHAT, 3, EditMessageBody(text="x")),
    "reorderQueue": lambda c: c.reorder_queue(CHAT, (QueuedId(2), QueuedId(1))),
    "editQueued": lambda c: c.edit_queued(CHAT, 3, EditQueuedBody(text="x")),
    "deleteQueued": lambda c: c.delete_queued(CHAT, 3),
    "promoteQueued": lambda c: c.promote_queued(CHAT, 3),
    "markRead": lambda c: c.mark_read(CHAT, 3),
    "pinChat": lambda c: c.pin(CHAT, 2),
    "unpinChat": lambda c: c.unpin(CHAT),
    "labelChat": lambda c: c.label(CHAT, {"k": "v"}),
    "forkChat": lambda c: c.fork(CHAT, 3, "t"),
    "getDesktop": lambda c: c.get_desktop(CHAT),
    "listModels": lambda c: c.list_models(),
    "putModel": lambda c: c.put_model(PutModelBody("demo", "m")),
    "listProviders": lambda c: c.list_providers(),
    "putProvider": lambda c: c.put_provider("demo", FORM),
    "deleteProvider": lambda c: c.delete_provider("demo"),
    "importChat": lambda c: c.import_chat(ImportChatBody(messages=())),
    "stageImport": lambda c: c.stage_import(StageImportBody("import:1", 0, ())),
    "compactChat": lambda c: c.compact(CHAT),
    "undoCompaction": lambda c: c.undo_compaction(CHAT),
    "regenerateTitle": lambda c: c.regenerate_title(CHAT),
    "resolveApproval": lambda c: c.resolve_approval(CHAT, "call/1", approved=True),
    "uploadFile": lambda c: c.upload_file(b"x", "x.txt"),
    "downloadFile": lambda c: c.download_file("f1"),
    "deleteFile": lambda c: c.delete_file("f1"),
    "listFiles": lambda c: c.list_files(CHAT),
    "deleteModel": lambda c: c.delete_model("demo/m/1"),
    "updateModel": lambda c: c.patch_model("demo/m/1", PatchModelBody()),
    "refreshPrices": lambda c: c.refresh_prices(),
    "updateProvider": lambda c: c.patch_provider("demo", PatchProviderBody()),
    "listServedModels": lambda c: c.list_served("demo"),
    "listAudit": lambda c: c.list_audit(before=9),
    "listGrants": lambda c: c.list_grants(),
    "revokeGrant": lambda c: c.revoke_grant("a/b c", CHAT),
    "getChatPolicy": lambda c: c.get_policy("chat", CHAT),
    "putChatPolicy": lambda c: c.put_policy("chat", [RuleInput("ask")], chat_id=CHAT),
    "dryRunPolicy": lambda c: c.dry_run_policy(CHAT, "chat", [RuleInput("ask")]),
    "getSystemPolicy": lambda c: c.get_policy("system"),
    "putSystemPolicy": lambda c: c.put_policy("system", []),
    "getUserPolicy": lambda c: c.get_policy("user"),
    "putUserPolicy": lambda c: c.put_policy("user", [], version=3),
    "getDeploymentPrompt": lambda c: c.get_prompt(),
    "putDeploymentPrompt": lambda c: c.put_prompt("Be kind."),
    "getInstructions": lambda c: c.get_instructions(),
    "putInstructions": lambda c: c.put_instructions(InstructionsBody("Be brief.")),
    "previewPrompt": lambda c: c.preview_prompt(CHAT),
    "listSkills": lambda c: c.list_skills(),
    "getSkill": lambda c: c.get_skill("tides"),
    "putSkill": lambda c: c.put_skill("tides", SkillInput("For tides.", "Look.")),
    "deleteSkill": lambda c: c.delete_skill("tides"),
    "answerQuestion": lambda c: c.answer(CHAT, (Answer(("yes",)),)),
    "approvePlan": lambda c: c.approve_plan(CHAT),
    "rejectPlan": lambda c: c.reject_plan(CHAT, "no"),
    "putLimits": lambda c: c.put_limits(CHAT, LimitsBody(steps=3)),
    "getUsage": lambda c: c.usage(),
    "listUsers": lambda c: c.list_users(),
    "createUser": lambda c: c.create_user(CreateUserBody("zoe")),
    "updateUser": lambda c: c.patch_user("u1", PatchUserBody(disabled=True)),
    "createSignIn": lambda c: c.new_sign_in("u1"),
    "listPlugins": lambda c: c.list_plugins(),
    "reloadPlugins": lambda c: c.reload_plugins(),
    "putPluginSettings": lambda c: c.put_plugin_settings("glossary", {"a": 1}),
    "putPluginSecret": lambda c: c.put_plugin_secret("glossary", "key", "v"),
    "deletePluginSecret": lambda c: c.delete_plugin_secret("glossary", "key"),
    "listMcpServers": lambda c: c.list_mcp_servers(),
    "createMcpServer": lambda c: c.create_mcp_server(CreateMcpServerBody(slug="s")),
    "updateMcpServer": lambda c: c.change_mcp_server("m1", ChangeMcpServerBody()),
    "deleteMcpServer": lambda c: c.delete_mcp_server("m1"),
    "beginMcpLogin": lambda c: c.begin_mcp_login("m1"),
    "finishMcpLogin": lambda c: c.finish_mcp_login(FinishMcpLoginBody("s", "c")),
    "endMcpLogin": lambda c: c.end_mcp_login("m1"),
    "listChatTools": lambda c: c.list_chat_tools(CHAT),
    "startDesktop": lambda c: c.start_desktop(CHAT, width=800, height=600),
    "resizeDesktop": lambda c: c.resize_desktop(CHAT, 800, 600),
    "getDesktopClipboard": lambda c: c.desktop_clipboard(CHAT),
    "putDesktopClipboard": lambda c: c.put_desktop_clipboard(CHAT, "x"),
    "stopDesktop": lambda c: c.stop_desktop(CHAT),
    "getDesktopScreenshot": lambda c: c.desktop_screenshot(CHAT),
    "actOnDesktop": lambda c: c.act_on_desktop(CHAT, DesktopActionBody("screenshot")),
    "takeDesktopControl": lambda c: c.take_desktop_control(CHAT, private=True),
    "returnDesktopControl": lambda c: c.return_desktop_control(CHAT),
    "listDesktopFiles": lambda c: c.desktop_files(CHAT),
    "downloadDesktopFile": lambda c: c.read_desktop_file(CHAT, "a&b/c d"),
    "uploadDesktopFile": lambda c: c.put_desktop_file(CHAT, "a", b"x"),
    "getDesktopServer": lambda c: c.desktop_server(CHAT),
    "putDesktopServer": lambda c: c.put_desktop_server(CHAT, "vnc.test:5900", "x"),
    "deleteDesktopServer": lambda c: c.delete_desktop_server(CHAT),
    "makeDesktopTicket": lambda c: c.make_desktop_ticket(CHAT),
    "listTemplates": lambda c: c.list_templates("x", page=2),
    "getTemplate": lambda c: c.get_template("default"),
    "listWorkspaces": lambda c: c.list_workspaces(),
    "getWorkspace": lambda c: c.get_workspace("w1"),
    "createWorkspace": lambda c: c.create_workspace(CreateWorkspaceBody("default")),
    "startWorkspace": lambda c: c.start_workspace("w1"),
    "stopWorkspace": lambda c: c.stop_workspace("w1"),
    "deleteWorkspace": lambda c: c.delete_workspace("w1"),
    "setChatWorkspace": lambda c: c.use_workspace(CHAT, None),
    "getWorkspaceDiff": lambda c: c.workspace_diff("w1"),
    "browseWorkspace": lambda c: c.browse_workspace("w1", "a b"),
    "downloadWorkspaceFile": lambda c: c.download_workspace_file("w1", "a&b/c d"),
    "uploadWorkspaceFile": lambda c: c.upload_workspace_file("w1", "a", b"x"),
    "startRecording": lambda c: c.start_recording(CHAT),
    "listRecordings": lambda c: c.recordings(CHAT),
    "getRecording": lambda c: c.get_recording(CHAT, RECORDING),
    "getRecordedFrame": lambda c: c.recorded_frame(CHAT, RECORDING, 1),
    "stopRecording": lambda c: c.stop_recording(CHAT, RECORDING),
    "deleteRecording": lambda c: c.delete_recording(CHAT, RECORDING),
    "downloadRecording": lambda c: c.download_recording(CHAT, RECORDING, "zip"),
    "watchChat": lambda c: _first_event(c.events(CHAT)),
    "watchChats": lambda c: _first_event(c.all_events()),
}
DERIVED = {"get_message", "watch_chats", "aclose"}
"""Methods that are more than one operation, or none."""


class Recorder:
    """Refuses everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        body = Problem("urn:x", "t", 400, "no", "no", "r1")
        return httpx2.Response(400, content=msgspec.json.encode(body))


def client_of(handler: Callable[[httpx2.Request], httpx2.Response]) -> Client:
    client = Client("http://x", "token")
    exchange: Exchange = client._exchange  # pyright: ignore[reportPrivateUsage]  # its connections
    exchange.http = httpx2.AsyncClient(
        transport=httpx2.MockTransport(handler), base_url=exchange.http.base_url
    )
    return client


@pytest.fixture(scope="module")
def operations() -> dict[str, tuple[str, str]]:
    """Method and path of every operation."""
    document = build_document("0")
    return {
        operation["operationId"]: (method.upper(), path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


async def test_every_operation_has_a_call_that_goes_there(
    operations: dict[str, tuple[str, str]],
) -> None:
    # An operation that is missing here wants a method of the client.
    assert set(CALLS) == set(operations)
    for name, call in CALLS.items():
        recorder = Recorder()
        async with client_of(recorder) as client:
            with pytest.raises(ApiProblem):
                await call(client)
        (request,) = recorder.asked
        method, path = operations[name]
        for parameter, value in (
            ("chat_id", CHAT),
            ("message_id", "3"),
            ("queued_id", "3"),
            ("provider_id", "demo"),
            ("call_id", "call/1"),
            ("file_id", "f1"),
            ("recording_id", RECORDING),
            ("number", "1"),
            ("model_id", "m/1"),
            ("user_id", "u1"),
            ("template_id", "default"),
            ("workspace_id", "w1"),
            ("plugin", "glossary"),
            ("skill", "tides"),
            ("key", "key"),
            ("server_id", "m1"),
        ):
            path = path.replace(f"{{{parameter}}}", value)
        assert (request.method, request.url.path) == (method, path), name


def test_every_method_is_tested_here_and_says_what_it_does() -> None:
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_"}
    used = {name for call in CALLS.values() for name in call.__code__.co_names}

    assert public - used - DERIVED == set()
    for name in public:
        assert inspect.getdoc(getattr(Client, name)), name


async def test_a_list_is_filtered_by_what_is_asked_for() -> None:
    recorder = Recorder()
    async with client_of(recorder) as client:
        with pytest.raises(ApiProblem):
            await client.list_chats(
                limit=7,
                archived="any",
                status=Status.ERROR,
                labels={"a": "b", "c/d": "e=f"},
                words='"at dawn" -sea',
                pinned=False,
            )
        with pytest.raises(ApiProblem):
            await client.list_messages(CHAT, after_revision=4, after_id=9)

    first, second = (request.url.params for request in recorder.asked)
    assert first.multi_items() == [
        ("limit", "7"),
        ("archived", "any"),
        ("status", "error"),
        ("label", "a=b"),
        ("label", "c/d=e=f"),
        ("q", '"at dawn" -sea'),
        ("pinned", "false"),
    ]
    assert dict(second) == {"limit": "50", "after_id": "9", "after_revision": "4"}


async def test_a_watched_list_reads_the_chats_that_it_does_not_know() -> None:
    known = new_chat()
    other = msgspec.structs.replace(known, id=ChatId("other"), snapshot_version=5)
    sync = FeedSync(epoch="e", position=1, head=1, snapshot=ChatsSnapshot((known,)))

    def frame(number: int, name: str, body: bytes) -> bytes:
        return b"id: e.%d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), body)

    stream = frame(1, "stream.sync", msgspec.json.encode(sync))
    for number, chat_id in ((2, "other"), (3, "gone")):
        body = {"chat_id": chat_id, "snapshot_version": 5, "status": "running"}
        stream += frame(number, "chat.status", msgspec.json.encode(body | {"history_version": 5}))

    def answer(request: httpx2.Request) -> httpx2.Response:
        match request.url.path.rsplit("/", 1)[1]:
            case "events":
                kind = {"content-type": "text/event-stream"}
                return httpx2.Response(200, stream=Connection(stream), headers=kind)
            case "other":
                return httpx2.Response(200, content=msgspec.json.encode(other))
            case _:
                body = Problem("urn:x", "t", 404, "no", "not_found", "r1")
                return httpx2.Response(404, content=msgspec.json.encode(body))

    seen: list[set[str]] = []
    async with asyncio.timeout(20), client_of(answer) as client:
        views = client.watch_chats()
        async for view in views:
            assert isinstance(view, ChatsView)
            assert view.unknown == set()
            seen.append({one.id for one in view.chats})
            if len(seen) == 3:
                break
        await views.aclose()

    assert seen == [{known.id}, {known.id, "other"}, {known.id, "other"}]


async def test_a_path_with_a_query_keeps_it() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url.query, "ascii"))
        return httpx2.Response(200, content=b"x")

    async with client_of(answer) as client:
        await client.download_workspace_file("w1", "a&b/c d")
        await client.read_desktop_file(CHAT, "a&b/c d")
        await client.download_recording(CHAT, "20260101T000000-00000000", "zip")

    assert asked == ["path=a%26b%2Fc+d", "path=a%26b%2Fc+d", "format=zip"]
