"""An archived chat is read, comes back or goes; nothing else that names it changes anything.

The methods are taken from the contracts: a new one that names a chat must be put into one of the
tables here, or the first test fails.
"""

from __future__ import annotations

import importlib
import pkgutil
import uuid
from typing import Any, Final

import asyncpg
import msgspec
import pytest
from support.chat_driver import StoreDriver, assistant, summary, text
from support.chat_sql import Everything
from support.waiting import until

from steersman_contracts import rpc as methods
from steersman_contracts.chats import ChatError, Status
from steersman_contracts.errors import SteersmanError, TransitionRefused
from steersman_contracts.ids import ChatId, MessageId, ModelName, QueuedId, RunnerId, UserId
from steersman_contracts.parts import TextPart, ToolCallPart
from steersman_contracts.questions import Answer
from steersman_contracts.rpc import (
    Actor,
    Method,
    agent_recordings,
    agents,
    attempts,
    desktop_audit,
    desktop_chats,
    files,
    policies,
    prompts,
    steering,
    titles,
    usage,
)
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import desktop_servers as vnc
from steersman_contracts.rpc import mcp as servers
from steersman_contracts.rpc import worker as work
from steersman_contracts.rpc import workspace_book as book
from steersman_contracts.terms import LimitReached, TurnLimits

pytestmark = pytest.mark.one_stack

RUNNER: Final = RunnerId("runner-1")
CALL: Final = ToolCallPart("call-1", "ask", {})

READS: Final[dict[Method[Any, Any], str]] = dict.fromkeys(
    (
        people.GET,
        people.LIST,
        people.LIST_MESSAGES,
        people.SNAPSHOT,
        files.LIST_FILES,
        files.READ_FOR_MODEL,
        files.FIND_FOR_MODEL,
        policies.GET,
        policies.DRY_RUN,
        policies.LIST_AUDIT,
        usage.GET_USAGE,
        agents.LOOK_AT_AGENTS,
        agent_recordings.FIND_DONE,
        desktop_chats.FIND_DELETED,
        desktop_chats.FIND_DESKTOP,
        desktop_chats.READ_SERVER,
        desktop_chats.RELEASE_DESKTOP,
        desktop_chats.RENEW_DESKTOPS,
        vnc.GET_SERVER,
        servers.SERVERS_OF_CHAT,
        book.FIND,
        work.LOAD_HISTORY,
        work.MODEL_ACCESS,
        prompts.LOOK_AT_CHAT,
        prompts.LOOK_UP_SKILL,
    ),
    "reads",
)
ALLOWED: Final[dict[Method[Any, Any], str]] = {
    people.ARCHIVE: "brings it back; once more changes nothing",
    people.DELETE: "an archive can be cleared out",
    people.FORK: "makes another chat, and leaves this one as it is",
    policies.REVOKE_GRANT: "allows less, and the chat stays as it is",
    people.MARK_READ: "goes with reading",
    people.PIN: "refused; but without a position it says what is so already",
    attempts.COUNT_ATTEMPT: "counts what was used",
    desktop_chats.CLAIM_DESKTOP: "counts a desktop; who may start it was asked before",
    agent_recordings.RECORDED: "writes down what has happened",
    desktop_audit.RECORD_CONTROL: "writes down what has happened",
    titles.SET_GENERATED_TITLE: "counts what was used, and is not accepted",
    titles.TAKE_TITLE: "has nothing to do",
    work.ABANDON: "gives back what nobody has",
    work.RENEW: "renews what is held, which this is not",
}


def refused_requests(
    actor: Actor, chat_id: ChatId, message_id: MessageId, queued_id: QueuedId
) -> dict[Method[Any, Any], Any]:
    """One of each, as it would be taken from a chat in use."""
    fence = work.Fence(chat_id, RUNNER, 1, Status.RUNNING)
    caller, call = agents.Caller(chat_id, RUNNER), agents.AgentCall(message_id, "call-1")
    step = (assistant("late"),)
    error = ChatError("generic", "late")
    outcome = people.ToolOutcome(CALL.call_id, (TextPart("it"),))
    return {
        people.UPDATE: people.UpdateChat(actor, chat_id, title="another"),
        people.SEND_MESSAGE: people.SendMessage(actor, chat_id, text("more")),
        people.EDIT_MESSAGE: people.EditMessage(actor, chat_id, message_id, text("other")),
        people.EDIT_QUEUED: people.EditQueued(actor, chat_id, queued_id, text("other")),
        people.DELETE_QUEUED: people.DeleteQueued(actor, chat_id, queued_id),
        people.PROMOTE_QUEUED: people.PromoteQueued(actor, chat_id, queued_id),
        people.REORDER_QUEUE: people.ReorderQueue(actor, chat_id, (queued_id,)),
        people.SUBMIT_TOOL_RESULTS: people.SubmitToolResults(actor, chat_id, (outcome,)),
        people.RESOLVE_APPROVAL: people.ResolveApproval(actor, chat_id, "call-1", True),
        people.LABEL: people.LabelChat(actor, chat_id, {"a": "b"}),
        people.REQUEST_COMPACTION: people.RequestCompaction(actor, chat_id),
        people.UNDO_COMPACTION: people.UndoCompaction(actor, chat_id),
        people.CLEAR_CONTEXT: people.ClearContext(actor, chat_id),
        people.INTERRUPT: people.Interrupt(actor, chat_id),
        titles.REGENERATE_TITLE: titles.RegenerateTitle(actor, chat_id),
        steering.ANSWER_QUESTION: steering.AnswerQuestion(actor, chat_id, "call-1", (Answer(),)),
        steering.DECIDE_PLAN: steering.DecidePlan(actor, chat_id, True),
        steering.SET_LIMITS: steering.SetLimits(actor, chat_id, TurnLimits(steps=3)),
        steering.PROPOSE_PLAN: steering.ProposePlan(chat_id, RUNNER, "call-1", "late"),
        steering.PAUSE_TURN: steering.PauseTurn(fence, LimitReached("steps", 1, 1), 60),
        policies.PUT: policies.PutPolicy(actor, "chat", (), chat_id),
        vnc.PUT_SERVER: vnc.PutServer(actor, chat_id, "10.0.0.1:5900"),
        vnc.DELETE_SERVER: vnc.OneServer(actor, chat_id),
        book.ATTACH: book.Attach(actor, chat_id),
        book.CLAIM: book.Claim("host-1", "plain", "local", {}, {}, chat_id=chat_id, actor=actor),
        agents.SPAWN_AGENT: agents.SpawnAgent(caller, call, "look"),
        agents.MESSAGE_AGENT: agents.MessageAgent(caller, call, chat_id, "look"),
        agents.INTERRUPT_AGENT: agents.InterruptAgent(caller, call, chat_id),
        work.ACQUIRE: work.Acquire(chat_id, RUNNER, 60),
        work.BEGIN_ATTEMPT: work.BeginAttempt(fence),
        work.RECORD_RETRY: work.RecordRetry(fence, 1, 1000, error),
        work.COMMIT_STEP: work.CommitStep(fence, step),
        work.ENTER_REQUIRES_ACTION: work.EnterRequiresAction(fence, (CALL,)),
        work.BEGIN_COMPACTION: work.BeginCompaction(fence, "manual"),
        work.COMMIT_COMPACTION: work.CommitCompaction(fence, "summary", (summary("late"),)),
        work.FAIL_COMPACTION: work.FailCompaction(fence, error),
        work.FINISH_TURN: work.FinishTurn(fence, step),
        work.FINISH_INTERRUPTION: work.FinishInterruption(fence, step),
        work.FINISH_ERROR: work.FinishError(fence, error, step),
    }


OF_WORKERS: Final = ("agents.", "worker.")


def methods_of_chats() -> set[Method[Any, Any]]:
    """Those of the store whose requests name a chat."""
    found: set[Method[Any, Any]] = set()
    for module in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
        values = vars(importlib.import_module(module.name)).values()
        of_store: list[Any] = [one for one in values if isinstance(one, Method)]
        for method in of_store:
            fields = {field.name for field in msgspec.structs.fields(method.request)}
            named = fields & {"chat_id", "chat_ids", "parent_id", "agent_id", "caller", "fence"}
            if named and method.service == "store":
                found.add(method)
    return found


def test_every_method_that_names_a_chat_is_in_one_of_the_tables() -> None:
    nobody = Actor(UserId(str(uuid.uuid4())))
    refused = refused_requests(nobody, ChatId(""), MessageId(1), QueuedId(1))
    known = [*READS, *ALLOWED, *refused]

    assert {method.name for method in known} == {method.name for method in methods_of_chats()}
    assert len(known) == len(set(known))


async def archived_chat(store: StoreDriver) -> ChatId:
    """After an error, with a queue: all that could be done to a chat could be done to it."""
    chat = await store.create("first", plan_mode=True)
    await store.acquire(chat.id)
    await store.finish(await store.fence(chat.id), assistant("answer"))
    await store.send(chat.id, "second")
    await store.acquire(chat.id)
    await store.send(chat.id, "queued")
    await store.finish_error(await store.fence(chat.id))
    await store.archive(chat.id)
    return chat.id


async def test_nobody_changes_an_archived_chat(store: StoreDriver, database_url: str) -> None:
    chat_id = await archived_chat(store)
    (queued,) = await store.queued_ids(chat_id)
    first = (await store.messages(chat_id))[0]
    connection = await asyncpg.connect(database_url)
    try:

        async def told() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM outbox")

        await until(told)
        tables = await Everything.of(connection, besides={"models"})  # their prices come by and by
        before = await tables.sums(chat_id)
        requests = refused_requests(store.actor, chat_id, first.id, QueuedId(queued))

        for method, request in requests.items():
            with pytest.raises(SteersmanError) as refused:
                await store.rpc.call(method, request)
            if method is steering.ANSWER_QUESTION:
                assert refused.value.code == "not_found"  # before anything else: none is asked
            elif method.name.startswith(OF_WORKERS) and method is not work.ACQUIRE:
                assert refused.value.code == "stale_fence", method.name
            else:
                assert isinstance(refused.value, TransitionRefused), (method.name, refused.value)
                assert refused.value.details["archived"] is True
            assert await tables.sums(chat_id) == before, method.name
        with pytest.raises(TransitionRefused):
            await store.rpc.call(people.PIN, people.PinChat(store.actor, chat_id, 1))
        assert await tables.sums(chat_id) == before

        await _still_allowed(store, chat_id, tables, before.others)
    finally:
        await connection.close()


async def _still_allowed(
    store: StoreDriver, chat_id: ChatId, tables: Everything, others: dict[str, int]
) -> None:
    chat = await store.archive(chat_id)
    assert await store.archive(chat_id) == chat
    assert (
        await store.rpc.call(people.PIN, people.PinChat(store.actor, chat_id, None))
    ).chat == chat
    task = await store.rpc.call(titles.TAKE_TITLE, titles.TakeTitle(chat_id))
    assert task.text == ""
    late = titles.SetGeneratedTitle(chat_id, "late", ModelName("demo/echo"), "auto")
    assert not (await store.rpc.call(titles.SET_GENERATED_TITLE, late)).accepted
    await store.abandon(chat_id)
    renewed = await store.rpc.call(work.RENEW, work.Renew(RUNNER, (chat_id,), 60))
    assert renewed.held == ()
    assert await store.chat(chat_id) == chat

    assert chat.has_unread
    read = (await store.rpc.call(people.MARK_READ, people.MarkRead(store.actor, chat_id))).chat
    assert (read.has_unread, read.archived) == (False, True)
    answer = (await store.messages(chat_id))[1]
    fork = people.ForkChat(store.actor, chat_id, answer.id)
    forked = (await store.rpc.call(people.FORK, fork)).chat
    assert not forked.archived
    assert await store.chat(chat_id) == read
    await store.delete(forked.id)

    back = await store.archive(chat_id, archived=False)
    assert (back.archived, back.status, back.queue_size) == (False, Status.ERROR, 1)
    await store.archive(chat_id)
    await store.delete(chat_id)
    after = await tables.sums(chat_id)
    for kept in ("messages", "queued_messages", "chats", "client_keys", "chat_marks", "policies"):
        assert after.all.get(kept) == after.others.get(kept), kept
    assert after.others.get("messages") == others.get("messages")
