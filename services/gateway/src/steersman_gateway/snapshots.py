"""What a viewer begins with: the chat as stored, and what its running episode has streamed so far.

The position is taken first and the store is asked second. Every durable event up to the position
was committed before it was published, so it is in the snapshot; what the snapshot knows beyond it
arrives once more as events, which carry their `snapshot_version`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from steersman_contracts.chats import Chat, ChatSnapshot, Preview, Status
from steersman_contracts.events import PartDelta
from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Actor
from steersman_contracts.rpc.chats import SNAPSHOT, Snapshot
from steersman_gateway.backend import Backend
from steersman_gateway.event_log import EventLog
from steersman_gateway.frames import DELTA
from steersman_gateway.topics import chat_topic
from steersman_runtime.episodes import CLOCK_SKEW, fold_episode

_decode = msgspec.json.Decoder(PartDelta).decode


async def take_snapshot(
    backend: Backend,
    event_log: EventLog,
    actor: Actor,
    chat_id: ChatId,
    *,
    position: int,
    previews: bool = True,
) -> ChatSnapshot:
    """Ask the store for the chat, and the log for the preview up to `position`.

    Raises:
        NotFound: Not a chat of this person (any more).
    """
    reply = await backend.call(SNAPSHOT, Snapshot(actor, chat_id))
    chat = reply.snapshot.chat
    running = chat.status in {Status.RUNNING, Status.INTERRUPTING}
    if not running or reply.attempt_started_at is None or not previews:
        return reply.snapshot
    deltas: list[bytes] = []
    last = 0
    more = True
    since = reply.attempt_started_at - CLOCK_SKEW
    subject = chat_topic(chat_id).subject
    while more and last < position:
        page = await event_log.read(subject, last, since=None if last else since)
        deltas += (e.payload for e in page.entries if e.name == DELTA and e.seq <= position)
        more = page.more and bool(page.entries)
        last = page.entries[-1].seq if page.entries else last
    return msgspec.structs.replace(reply.snapshot, preview=fold(chat, deltas))


def fold(chat: Chat, payloads: Iterable[bytes]) -> Preview | None:
    """Add up the deltas of the chat's present episode.

    Returns:
        The preview; None when there are no deltas, or when not all of them are there from the
        first on: half an answer would look like the whole.
    """
    try:
        deltas = [_decode(payload) for payload in payloads]
        return fold_episode(
            deltas, history_version=chat.history_version, attempt=chat.generation_attempt
        )
    except (msgspec.DecodeError, ValueError):  # a later version's, or not a stream at all
        return None
