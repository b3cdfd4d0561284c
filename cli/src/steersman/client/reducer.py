"""The reference reducer: events in, what a person sees out.

Pure: no clock, no I/O. The same events give the same view, whether they arrive once or several
times, in one stream or in pieces resumed from a cursor or from a snapshot. The rules:

- `stream.sync` with a snapshot replaces everything; durable events up to its version are ignored.
- The log is in order, so a durable event older than one already seen is a repeat. Those of one
  transition share a version: applying one of them twice is harmless.
- Messages are upserted by id. A durable event of a newer history version than the preview's ends
  the preview: what it showed is in the history now.
- `attempt.started` opens an empty preview, and so does `compaction.started`, for the summary. A
  delta of an older episode is ignored, one of a newer episode opens a preview itself. `seq` counts
  from 1 without holes; a repeat is ignored, after a hole the preview is gone until the message is
  committed.
- A summary is no longer being written once `compaction.finished` says so, the next attempt starts,
  the history is reset, or the turn ends.
- `retry.scheduled`, `preview.reset` and the end of a turn end the preview; deltas of the same
  episode change nothing any more, nor do any while the chat rests. A `retry` in a snapshot is the
  `retry.scheduled` that came before it. The next attempt ends it, as does any status but `running`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from steersman.client.previews import OpenPreview
from steersman_contracts import events as e
from steersman_contracts.chats import (
    Chat,
    ChatSnapshot,
    Message,
    Outcome,
    PendingRetry,
    Preview,
    QueuedMessage,
    Status,
)
from steersman_contracts.ids import MessageId
from steersman_contracts.parts import Part, Parts, ToolResultPart

RESTING: Final = frozenset({Status.WAITING, Status.ERROR, Status.REQUIRES_ACTION})
"""Statuses in which nothing happens until a person does something."""

_WITH_HISTORY: Final = (
    e.MessageCreated,
    e.MessageUpdated,
    e.HistoryReset,
    e.ChatStatusChanged,
    e.AttemptStarted,
    e.CompactionStarted,
)


class View:
    """A chat as the events so far describe it.

    Attributes:
        chat: None until the first snapshot, or `chat.created`.
        has_more: There are older messages than the snapshot held.
        queue: What waits for its turn.
        preview_lost: Deltas are missing: the answer shows once it is committed.
        retry: The retry that is being waited for; its countdown ends at `retrying_at`.
        progress: The last words of running tools, by call id.
        compacting: Older history is being summarised.
        version: The newest snapshot version that is contained.
        deleted: The chat is gone.
    """

    def __init__(self) -> None:
        self._messages: dict[MessageId, Message] = {}
        self._preview = OpenPreview()
        self._progress: dict[str, e.ToolProgress] = {}
        self._floor = 0
        self.chat: Chat | None = None
        self.has_more = False
        self.queue: tuple[QueuedMessage, ...] = ()
        self.retry: PendingRetry | None = None
        self.compacting = False
        self.version = 0
        self.deleted = False

    # -- what it shows ---------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history that is known, in order."""
        return tuple(self._messages[key] for key in sorted(self._messages))

    @property
    def preview(self) -> Preview | None:
        """What the running attempt has streamed so far; None when none runs or parts are lost."""
        return self._preview.value()

    @property
    def preview_lost(self) -> bool:
        return self._preview.lost

    @property
    def progress(self) -> dict[str, str]:
        return {call_id: event.text for call_id, event in self._progress.items()}

    @property
    def status(self) -> Status | None:
        return None if self.chat is None else self.chat.status

    @property
    def outcome(self) -> Outcome | None:
        """How the last turn that ended did so."""
        return None if self.chat is None else self.chat.last_outcome

    @property
    def resting(self) -> bool:
        """Nothing happens until a person does something."""
        waits_for_agents = (
            self.status is Status.REQUIRES_ACTION
            and self.chat is not None
            and self.chat.action is not None
            and not self.chat.action.needs_client
        )
        return self.deleted or (self.status in RESTING and not waits_for_agents)

    # -- events ----------------------------------------------------------------------------------

    def apply_all(self, events: Iterable[e.Event]) -> View:
        """Take in several events; returns itself."""
        for event in events:
            self.apply(event)
        return self

    def apply(self, event: e.Event) -> None:
        """Take in the next event of the chat's stream."""
        if isinstance(event, e.DurableEvent):
            if event.snapshot_version <= self._floor or event.snapshot_version < self.version:
                return
            self.version = event.snapshot_version
            if isinstance(event, _WITH_HISTORY):
                self._history_at(event.history_version)
            self._change(snapshot_version=event.snapshot_version)
            self._durable(event)
        else:
            self._passing(event)

    def _passing(self, event: e.Event) -> None:
        match event:
            case e.StreamSync(snapshot=ChatSnapshot() as snapshot):
                self._replace(snapshot)
            case e.PartDelta():
                if self._preview.add(event):
                    self.retry = None
            case e.PreviewReset():
                self._preview.end((event.history_version, event.attempt))
            case e.ToolProgress():
                known = self._progress.get(event.call_id)
                stale = self.chat is not None and event.history_version < self.chat.history_version
                if not stale and (known is None or known.seq < event.seq):
                    self._progress[event.call_id] = event
            case _:  # `stream.gap`: the snapshot that follows says everything
                pass

    def _durable(self, event: e.DurableEvent) -> None:
        match event:
            case e.ChatCreated() | e.ChatUpdated():
                self.chat = event.chat
            case e.ChatArchived():
                self._change(archived=True, pin_position=None)
                self._updated(event)
            case e.ChatUnarchived():
                self._change(archived=False)
                self._updated(event)
            case e.ChatDeleted():
                self.deleted = True
                self._turn_over(None)
            case e.MessageCreated() | e.MessageUpdated():
                self._upsert(event.message)
            case e.HistoryReset():
                # What the same transition put in their place has its version as revision.
                self._messages = {
                    key: message
                    for key, message in self._messages.items()
                    if key < event.from_message_id or message.revision >= event.snapshot_version
                }
                self.compacting = False
            case e.QueueUpdated():
                self.queue = event.queue
                self._change(queue_version=event.queue_version, queue_size=len(event.queue))
            case e.AttemptStarted():
                if self._preview.open((event.history_version, event.attempt)):
                    self.retry = None
                self.compacting = False
                self._change(generation_attempt=event.attempt, model=event.model)
            case _:
                self._turn_event(event)

    def _turn_event(self, event: e.DurableEvent) -> None:
        match event:
            case e.ChatStatusChanged():
                self._status(event)
            case e.RetryScheduled():
                if self._preview.end((event.history_version, event.attempt)):
                    self.retry = PendingRetry(
                        event.attempt, event.delay_ms, event.retrying_at, event.kind, event.message
                    )
            case e.ChatErrored():
                self._change(last_error=event.error)
            case e.ActionRequired():
                self._change(action=event.action)
            case e.CompactionStarted():
                if self._preview.open((event.history_version, event.attempt)):
                    self.retry = None
                self._change(generation_attempt=event.attempt)
                self.compacting = True
            case e.CompactionFinished():
                self.compacting = False
            case _:  # `usage.recorded`: the message carries it too
                pass

    # -- what events have in common --------------------------------------------------------------

    def _replace(self, snapshot: ChatSnapshot) -> None:
        chat = snapshot.chat
        self.chat = chat
        self._messages = {message.id: message for message in snapshot.messages}
        self.has_more = snapshot.has_more
        self.queue = snapshot.queue
        self.version = self._floor = chat.snapshot_version
        episode = (chat.history_version, chat.generation_attempt)
        self._preview = OpenPreview.restored(episode, snapshot.preview)
        if self.resting:  # its last attempt has ended; deltas of it may still come
            self._preview.close()
        self._progress = {}
        self.retry, self.compacting = snapshot.retry, False
        if snapshot.retry is not None:
            self._preview.end((chat.history_version, snapshot.retry.attempt))
        self.deleted = False

    def _history_at(self, version: int) -> None:
        if self._preview.outdated(version):
            self._preview.end((version, 0))
            self.retry = None
        if self.chat is not None and version > self.chat.history_version:
            self._change(history_version=version, generation_attempt=0)
            self._progress.clear()

    def _upsert(self, message: Message) -> None:
        if message.deleted:
            self._messages.pop(message.id, None)
        else:
            self._messages[message.id] = message
        for call_id in _answered(message.parts):
            self._progress.pop(call_id, None)

    def _status(self, event: e.ChatStatusChanged) -> None:
        self._change(status=event.status)
        self._updated(event)
        if event.has_unread is not None:
            self._change(has_unread=event.has_unread)
        if event.outcome is not None:
            # What follows at once has its message in this version already.
            promoted = event.status is Status.RUNNING
            self._turn_over(event.history_version - promoted)
            self._change(last_outcome=event.outcome)
        if event.status is not Status.RUNNING:
            self.retry = None
            self.compacting = False
        if event.status is not Status.ERROR:
            self._change(last_error=None)
        if event.status is not Status.REQUIRES_ACTION:
            self._change(action=None)

    def _updated(self, event: e.ChatArchived | e.ChatUnarchived | e.ChatStatusChanged) -> None:
        if event.updated_at is not None:
            self._change(updated_at=event.updated_at)

    def _turn_over(self, history_version: int | None) -> None:
        # Deltas do not wait for what is stored: those of the next turn may have come already.
        if history_version is None or self._preview.outdated(history_version + 1):
            self._preview.close()
        self.retry = None
        self.compacting = False
        self._progress.clear()

    def _change(self, **values: object) -> None:
        if self.chat is not None:
            self.chat = msgspec.structs.replace(self.chat, **values)


def _answered(parts: Parts) -> Iterable[str]:
    def call_id(part: Part) -> str | None:
        return part.call_id if isinstance(part, ToolResultPart) else None

    return filter(None, map(call_id, parts))
