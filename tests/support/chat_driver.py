"""Drives chats through the store's RPC, as a person and as a worker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from steersman_contracts import events, subjects
from steersman_contracts.chats import Chat, ChatError, Message, Role, Status, Usage, Visibility
from steersman_contracts.ids import ChatId, MessageId, ModelName, QueuedId, RunnerId, UserId
from steersman_contracts.parts import Part, TextPart, ToolCallPart, ToolResultPart
from steersman_contracts.policies import PendingApproval
from steersman_contracts.questions import Answer
from steersman_contracts.rpc import Actor, steering
from steersman_contracts.rpc import chats as people
from steersman_contracts.rpc import worker as work
from steersman_contracts.terms import LimitReached, TurnLimits
from steersman_runtime.nats_client import NatsClient, header
from steersman_runtime.rpc import RpcClient


def text(*words: str) -> tuple[Part, ...]:
    """Text parts."""
    return tuple(TextPart(word) for word in words)


def summary(words: str) -> work.NewMessage:
    """The boundary of a compaction."""
    return work.NewMessage(Role.USER, text(words), Visibility.MODEL)


def words_of(message: Message) -> str:
    """The text of a message."""
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def assistant(*parts: Part | str) -> work.NewMessage:
    """An assistant message."""
    made = tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
    return work.NewMessage(Role.ASSISTANT, made, usage=Usage(1, 1), stop="end")


async def new_actor(database_url: str, name: str = "alice") -> Actor:
    """A person who is known to the store."""
    actor = Actor(UserId(str(uuid.uuid4())))
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO users (id, name, role) VALUES ($1, $2, 'member')", actor.user_id, name
        )
    finally:
        await connection.close()
    return actor


_FEEDS = subjects.FEED_LIVE_SUBJECTS.removesuffix("*").encode()


class EventLog:
    """Every event that is republished, as it arrives."""

    def __init__(self, client: NatsClient) -> None:
        self.seen: list[tuple[ChatId, events.Event]] = []
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        client.listen(subjects.LIVE_SUBJECTS, self._on_event)

    def _on_event(self, subject: bytes, _: bytes, headers: bytes, payload: bytes) -> None:
        if subject.startswith(_FEEDS):
            return  # the same once more, for the list of the owner
        name = (header(headers, events.EVENT_HEADER.encode()) or b"").decode()
        event = msgspec.json.decode(payload, type=events.EVENTS[name])
        self.seen.append((subjects.chat_of(subject.decode()), event))
        task = asyncio.get_running_loop().create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    def of(self, chat_id: ChatId) -> list[events.Event]:
        """The events of one chat so far."""
        return [event for seen_id, event in self.seen if seen_id == chat_id]

    async def more(self, than: int) -> None:
        """Wait until more than so many events have arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.seen) > than)

    def has_told(self, chat: Chat) -> bool:
        """Whether what led to this version of a chat has been seen: the log is behind the store."""
        return any(
            isinstance(event, events.DurableEvent)
            and event.snapshot_version >= chat.snapshot_version
            for event in reversed(self.of(chat.id))
        )

    async def until(self, chat_id: ChatId, kind: type[events.Event], **fields: Any) -> events.Event:
        """Wait for an event of this kind with these fields; one that has passed counts."""

        def found() -> events.Event | None:
            for event in self.of(chat_id):
                if isinstance(event, kind) and all(
                    getattr(event, name) == value for name, value in fields.items()
                ):
                    return event
            return None

        async with asyncio.timeout(60), self._arrived:
            await self._arrived.wait_for(lambda: found() is not None)
        event = found()
        assert event is not None
        return event


class StoreDriver:
    """Short names for the store's methods."""

    def __init__(self, client: NatsClient, actor: Actor) -> None:
        self.rpc = RpcClient(client, wait_for_service_s=10)
        self.actor = actor
        self.log = EventLog(client)

    async def create(
        self, words: str | None = "hello", model: str = "demo/echo", **fields: Any
    ) -> Chat:
        parts = () if words is None else text(words)
        request = people.CreateChat(self.actor, ModelName(model), parts=parts, **fields)
        return (await self.rpc.call(people.CREATE, request)).chat

    async def send(self, chat_id: ChatId, words: str, **fields: Any) -> people.SendReply:
        request = people.SendMessage(self.actor, chat_id, text(words), **fields)
        return await self.rpc.call(people.SEND_MESSAGE, request)

    async def interrupt(self, chat_id: ChatId) -> Chat:
        return (await self.rpc.call(people.INTERRUPT, people.Interrupt(self.actor, chat_id))).chat

    async def chat(self, chat_id: ChatId) -> Chat:
        return (await self.rpc.call(people.GET, people.GetChat(self.actor, chat_id))).chat

    async def delete(self, chat_id: ChatId) -> None:
        await self.rpc.call(people.DELETE, people.DeleteChat(self.actor, chat_id))

    async def messages(self, chat_id: ChatId, **fields: Any) -> tuple[Message, ...]:
        request = people.ListMessages(self.actor, chat_id, limit=200, **fields)
        return (await self.rpc.call(people.LIST_MESSAGES, request)).messages

    async def snapshot(self, chat_id: ChatId) -> people.SnapshotReply:
        return await self.rpc.call(people.SNAPSHOT, people.Snapshot(self.actor, chat_id))

    async def acquire(
        self,
        chat_id: ChatId,
        runner: str = "runner-1",
        *,
        known: int = 0,
        lease_s: float = 60,
        begin: bool = False,
    ) -> work.WorkContext:
        request = work.Acquire(chat_id, RunnerId(runner), lease_s, known, begin)
        return await self.rpc.call(work.ACQUIRE, request)

    async def fence(self, chat_id: ChatId, runner: str = "runner-1") -> work.Fence:
        """A fence that is true at this moment."""
        chat = await self.chat(chat_id)
        return work.Fence(chat_id, RunnerId(runner), chat.history_version, chat.status)

    async def edit(
        self, chat_id: ChatId, message_id: int, words: str, **fields: Any
    ) -> people.SendReply:
        request = people.EditMessage(
            self.actor, chat_id, MessageId(message_id), text(words), **fields
        )
        return await self.rpc.call(people.EDIT_MESSAGE, request)

    async def edit_queued(self, chat_id: ChatId, queued_id: int, words: str, **fields: Any) -> Chat:
        request = people.EditQueued(self.actor, chat_id, QueuedId(queued_id), text(words), **fields)
        return (await self.rpc.call(people.EDIT_QUEUED, request)).chat

    async def delete_queued(self, chat_id: ChatId, queued_id: int) -> Chat:
        request = people.DeleteQueued(self.actor, chat_id, QueuedId(queued_id))
        return (await self.rpc.call(people.DELETE_QUEUED, request)).chat

    async def promote_queued(self, chat_id: ChatId, queued_id: int) -> Chat:
        request = people.PromoteQueued(self.actor, chat_id, QueuedId(queued_id))
        return (await self.rpc.call(people.PROMOTE_QUEUED, request)).chat

    async def reorder(self, chat_id: ChatId, queued_ids: Sequence[int]) -> Chat:
        request = people.ReorderQueue(
            self.actor, chat_id, tuple(QueuedId(number) for number in queued_ids)
        )
        return (await self.rpc.call(people.REORDER_QUEUE, request)).chat

    async def submit(self, chat_id: ChatId, results: dict[str, str]) -> Chat:
        outcomes = tuple(
            people.ToolOutcome(call_id, (TextPart(words),)) for call_id, words in results.items()
        )
        request = people.SubmitToolResults(self.actor, chat_id, outcomes)
        return (await self.rpc.call(people.SUBMIT_TOOL_RESULTS, request)).chat

    async def resolve(
        self, chat_id: ChatId, call_id: str, *, approved: bool = True, **fields: Any
    ) -> Chat:
        request = people.ResolveApproval(self.actor, chat_id, call_id, approved, **fields)
        return (await self.rpc.call(people.RESOLVE_APPROVAL, request)).chat

    async def answer(self, chat_id: ChatId, *answers: Answer, call_id: str | None = None) -> Chat:
        request = steering.AnswerQuestion(self.actor, chat_id, call_id, answers)
        return (await self.rpc.call(steering.ANSWER_QUESTION, request)).chat

    async def decide_plan(self, chat_id: ChatId, *, approved: bool, comment: str = "") -> Chat:
        request = steering.DecidePlan(self.actor, chat_id, approved, comment)
        return (await self.rpc.call(steering.DECIDE_PLAN, request)).chat

    async def set_limits(self, chat_id: ChatId, **limits: int) -> Chat:
        request = steering.SetLimits(self.actor, chat_id, TurnLimits(**limits))
        return (await self.rpc.call(steering.SET_LIMITS, request)).chat

    async def archive(self, chat_id: ChatId, *, archived: bool = True) -> Chat:
        request = people.ArchiveChat(self.actor, chat_id, archived)
        return (await self.rpc.call(people.ARCHIVE, request)).chat

    async def clear(self, chat_id: ChatId) -> Chat:
        request = people.ClearContext(self.actor, chat_id)
        return (await self.rpc.call(people.CLEAR_CONTEXT, request)).chat

    async def compact(self, chat_id: ChatId) -> Chat:
        request = people.RequestCompaction(self.actor, chat_id)
        return (await self.rpc.call(people.REQUEST_COMPACTION, request)).chat

    async def undo_compaction(self, chat_id: ChatId) -> Chat:
        request = people.UndoCompaction(self.actor, chat_id)
        return (await self.rpc.call(people.UNDO_COMPACTION, request)).chat

    async def queued_ids(self, chat_id: ChatId) -> list[int]:
        return [queued.id for queued in (await self.snapshot(chat_id)).snapshot.queue]

    async def require_action(
        self,
        fence: work.Fence,
        *calls: ToolCallPart,
        results: tuple[ToolResultPart, ...] = (),
        approvals: tuple[PendingApproval, ...] = (),
        expires_s: float = 300,
        waits: tuple[work.AgentWait, ...] = (),
    ) -> work.Committed:
        request = work.EnterRequiresAction(fence, calls, results, approvals, expires_s, waits)
        return await self.rpc.call(work.ENTER_REQUIRES_ACTION, request)

    async def pause(self, fence: work.Fence) -> work.Committed:
        request = steering.PauseTurn(fence, LimitReached("steps", 1, 1), 300)
        return await self.rpc.call(steering.PAUSE_TURN, request)

    async def begin(self, fence: work.Fence) -> work.AttemptBegun:
        return await self.rpc.call(work.BEGIN_ATTEMPT, work.BeginAttempt(fence))

    async def commit(self, fence: work.Fence, *messages: work.NewMessage) -> work.Committed:
        return await self.rpc.call(work.COMMIT_STEP, work.CommitStep(fence, messages))

    async def begin_compaction(self, fence: work.Fence) -> work.AttemptBegun:
        request = work.BeginCompaction(fence, "manual")
        return await self.rpc.call(work.BEGIN_COMPACTION, request)

    async def commit_compaction(
        self,
        fence: work.Fence,
        *messages: work.NewMessage,
        at_rest: bool = False,
        begin: bool = False,
    ) -> work.Committed:
        boundary = "summary-at-rest" if at_rest else "summary"
        request = work.CommitCompaction(fence, boundary, messages, begin)
        return await self.rpc.call(work.COMMIT_COMPACTION, request)

    async def fail_compaction(self, fence: work.Fence) -> work.Committed:
        error = ChatError("generic", "no summary")
        return await self.rpc.call(work.FAIL_COMPACTION, work.FailCompaction(fence, error))

    async def finish(self, fence: work.Fence, *messages: work.NewMessage) -> work.Committed:
        return await self.rpc.call(work.FINISH_TURN, work.FinishTurn(fence, messages))

    async def finish_interruption(
        self, fence: work.Fence, *messages: work.NewMessage
    ) -> work.Committed:
        request = work.FinishInterruption(fence, messages)
        return await self.rpc.call(work.FINISH_INTERRUPTION, request)

    async def finish_error(self, fence: work.Fence, *messages: work.NewMessage) -> work.Committed:
        error = ChatError("generic", "it broke")
        return await self.rpc.call(work.FINISH_ERROR, work.FinishError(fence, error, messages))

    async def retry(self, fence: work.Fence) -> None:
        error = ChatError("overloaded", "busy", retryable=True)
        await self.rpc.call(work.RECORD_RETRY, work.RecordRetry(fence, 1, 1000, error))

    async def abandon(self, chat_id: ChatId, runner: str = "runner-1") -> None:
        await self.rpc.call(work.ABANDON, work.Abandon(chat_id, RunnerId(runner)))

    async def at_rest(self, chat_id: ChatId, timeout_s: float = 60.0) -> Chat:
        """Wait until the chat rests, and the log has told all that led to it."""
        async with asyncio.timeout(timeout_s):
            while True:
                count = len(self.log.seen)
                chat = await self.chat(chat_id)
                if chat.status in (Status.WAITING, Status.ERROR) and self.log.has_told(chat):
                    return chat
                await self.log.more(count)
