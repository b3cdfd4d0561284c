"""A small model of the store: writes the log of one chat and knows the truth at every moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from steersman_contracts import events as e
from steersman_contracts.chats import (
    Chat,
    ChatError,
    ChatSnapshot,
    Message,
    Outcome,
    PendingRetry,
    Preview,
    QueuedMessage,
    Role,
    Status,
)
from steersman_contracts.deltas import Delta, PartsBuilder
from steersman_contracts.ids import ChatId, MessageId, ModelName, QueuedId, UserId
from steersman_contracts.parts import Parts, TextPart

CHAT_ID = ChatId("01a00000-0000-7000-8000-000000000000")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = ModelName("demo/echo")


def new_chat(status: Status = Status.WAITING) -> Chat:
    return Chat(
        id=CHAT_ID,
        owner_id=UserId("u"),
        title="",
        model=MODEL,
        status=status,
        created_at=NOW,
        updated_at=NOW,
        snapshot_version=1,
        history_version=1,
    )


class ChatLog:
    """Methods are transitions. `log` is what was published, `truths` the state after each event."""

    def __init__(self) -> None:
        self.chat = new_chat()
        self.messages: list[Message] = []
        self.queue: list[QueuedMessage] = []
        self.log: list[e.Event] = []
        self.truths: list[ChatSnapshot] = []
        self._pending: list[e.Event] = []
        self._retry: PendingRetry | None = None
        self._next_id = 1
        self._builder = PartsBuilder()
        self._seq = 0
        self._emit(e.ChatCreated(chat_id=CHAT_ID, snapshot_version=1, chat=self.chat))
        self._publish()

    # -- what people do --------------------------------------------------------------------------

    def send(self, text: str) -> None:
        parts = (TextPart(text),)
        if self.chat.status in {Status.WAITING, Status.ERROR} and not self.queue:
            self._move(status=Status.RUNNING, history=True, last_error=None)
            self._append(Role.USER, parts)
            self._status()
        else:
            self._move(queue=True)
            self.queue.append(QueuedMessage(QueuedId(self._take_id()), parts, NOW))
            if self.chat.status is Status.ERROR:
                self._change(
                    status=Status.RUNNING,
                    history_version=self.chat.snapshot_version,
                    last_error=None,
                )
                self._promote()
                self._status()
            self._queue()
        self._publish()

    def edit(self, from_id: int) -> None:
        self.queue.clear()
        self._move(status=Status.RUNNING, history=True, queue=True, last_error=None)
        self.messages = [message for message in self.messages if message.id < from_id]
        self._emit(
            e.HistoryReset(
                chat_id=CHAT_ID,
                snapshot_version=self.chat.snapshot_version,
                history_version=self.chat.history_version,
                from_message_id=MessageId(from_id),
            )
        )
        self._append(Role.USER, (TextPart("edited"),))
        self._queue()
        self._status()
        self._publish()

    def rename(self, title: str) -> None:
        self._move(title=title)
        self._emit(
            e.ChatUpdated(
                chat_id=CHAT_ID, snapshot_version=self.chat.snapshot_version, chat=self.chat
            )
        )
        self._publish()

    def clear(self) -> None:
        self._move(history=True)
        self._append(Role.SYSTEM, (TextPart("The context was cleared."),))
        marked = msgspec.structs.replace(self.messages[-1], boundary="clear")
        self.messages[-1] = marked
        created = self._pending[-1]
        assert isinstance(created, e.MessageCreated)
        self._pending[-1] = msgspec.structs.replace(created, message=marked)
        self._publish()

    # -- what the worker does --------------------------------------------------------------------

    def begin(self) -> None:
        attempt = self.chat.generation_attempt + 1
        self._move(generation_attempt=attempt)
        self._retry = None
        self._builder, self._seq = PartsBuilder(), 0
        self._emit(
            e.AttemptStarted(
                chat_id=CHAT_ID,
                snapshot_version=self.chat.snapshot_version,
                history_version=self.chat.history_version,
                attempt=attempt,
                model=MODEL,
            )
        )
        self._publish()

    def stream(self, *deltas: Delta) -> None:
        self._seq += 1
        for delta in deltas:
            self._builder.apply(delta)
        self._emit(
            e.PartDelta(
                chat_id=CHAT_ID,
                history_version=self.chat.history_version,
                attempt=self.chat.generation_attempt,
                seq=self._seq,
                deltas=deltas,
            )
        )
        self._publish()

    def retry(self) -> None:
        self._move()
        self._retry = PendingRetry(self.chat.generation_attempt, 1000, NOW, "overloaded", "busy")
        self._drop_preview()
        self._emit(
            e.RetryScheduled(
                chat_id=CHAT_ID,
                snapshot_version=self.chat.snapshot_version,
                history_version=self.chat.history_version,
                attempt=self.chat.generation_attempt,
                delay_ms=1000,
                retrying_at=NOW,
                kind="overloaded",
                message="busy",
            )
        )
        self._publish()

    def progress(self, call_id: str, seq: int) -> None:
        self._emit(
            e.ToolProgress(
                chat_id=CHAT_ID,
                history_version=self.chat.history_version,
                call_id=call_id,
                tool="t",
                seq=seq,
                text=f"{call_id} {seq}",
            )
        )
        self._publish()

    def commit(self, *extra: tuple[Role, Parts]) -> None:
        """The step is stored, and the turn goes on."""
        parts = self._builder.parts()
        self._move(history=True, generation_attempt=0)
        self._drop_preview()
        self._append(Role.ASSISTANT, parts)
        for role, content in extra:
            self._append(role, content)
        self._publish()

    def end(self, outcome: Outcome) -> None:
        """The turn ends, with what was streamed if there was anything."""
        parts = self._builder.parts()
        error = outcome == "error"
        goes_on = bool(self.queue) and not error
        self._move(
            status=Status.ERROR if error else Status.RUNNING if goes_on else Status.WAITING,
            history=bool(parts) or goes_on,
            queue=goes_on,
            last_outcome=outcome,
            last_error=ChatError("generic", "broken") if error else None,
        )
        self._drop_preview()
        if parts:
            self._append(Role.ASSISTANT, parts)
        if error:
            self._emit(
                e.ChatErrored(
                    chat_id=CHAT_ID,
                    snapshot_version=self.chat.snapshot_version,
                    error=ChatError("generic", "broken"),
                )
            )
        self._status(outcome)
        if goes_on:
            self._promote()
            self._queue()
        self._publish()

    # -- the truth -------------------------------------------------------------------------------

    def snapshot(self, stored_at: int, position: int) -> ChatSnapshot:
        """What a gateway sends: the store as of one moment, the preview as of an earlier one."""
        stored = self.truths[stored_at]
        chat = stored.chat
        builder, seq = PartsBuilder(), 0
        if chat.status in {Status.RUNNING, Status.INTERRUPTING}:
            for event in self.log[: position + 1]:
                if isinstance(event, e.PartDelta) and (event.history_version, event.attempt) == (
                    chat.history_version,
                    chat.generation_attempt,
                ):
                    seq = event.seq
                    for delta in event.deltas:
                        builder.apply(delta)
        preview = None
        if seq and stored.retry is None:
            preview = Preview(chat.history_version, chat.generation_attempt, seq, builder.parts())
        return msgspec.structs.replace(stored, preview=preview)

    def _move(self, *, history: bool = False, queue: bool = False, **changes: object) -> None:
        version = self.chat.snapshot_version + 1
        changes["snapshot_version"] = version
        if history:
            self._retry = None
            changes["history_version"] = version
            changes.setdefault("generation_attempt", 0)
        if queue:
            changes["queue_version"] = version
        self._change(**changes)

    def _change(self, **changes: object) -> None:
        self.chat = msgspec.structs.replace(self.chat, **changes)

    def _drop_preview(self) -> None:
        self._builder = PartsBuilder()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _append(self, role: Role, parts: Parts) -> None:
        message = Message(MessageId(self._take_id()), role, parts, self.chat.snapshot_version, NOW)
        self.messages.append(message)
        self._emit(
            e.MessageCreated(
                chat_id=CHAT_ID,
                snapshot_version=self.chat.snapshot_version,
                history_version=self.chat.history_version,
                message=message,
            )
        )

    def _promote(self) -> None:
        self._append(Role.USER, self.queue.pop(0).parts)

    def _queue(self) -> None:
        self._emit(
            e.QueueUpdated(
                chat_id=CHAT_ID,
                snapshot_version=self.chat.snapshot_version,
                queue_version=self.chat.queue_version,
                queue=tuple(self.queue),
            )
        )

    def _status(self, outcome: Outcome | None = None) -> None:
        self._emit(
            e.ChatStatusChanged(
                chat_id=CHAT_ID,
                snapshot_version=self.chat.snapshot_version,
                status=self.chat.status,
                history_version=self.chat.history_version,
                outcome=outcome,
            )
        )

    def _emit(self, event: e.Event) -> None:
        self._pending.append(event)

    def _publish(self) -> None:
        """The transaction is over: its events appear, and every one of them has it as its truth."""
        self._change(queue_size=len(self.queue))
        if self.chat.status is not Status.RUNNING:
            self._retry = None
        truth = ChatSnapshot(
            self.chat, tuple(self.messages), queue=tuple(self.queue), retry=self._retry
        )
        self.log += self._pending
        self.truths += [truth] * len(self._pending)
        self._pending = []


def sync(snapshot: ChatSnapshot | None, position: int = 0) -> e.StreamSync:
    return e.StreamSync(
        chat_id=CHAT_ID, epoch="x", position=position, head=position, snapshot=snapshot
    )


def sent(events: Sequence[e.Event]) -> list[e.Event]:
    """The events as they come out of JSON."""
    return [msgspec.json.decode(msgspec.json.encode(event), type=type(event)) for event in events]
