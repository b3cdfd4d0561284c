"""What the desktop service tells the store of the agents that it records, and asks about them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from steersman_contracts.ids import ChatId
from steersman_contracts.rpc import Method, Nothing
from steersman_contracts.rpc.desktop_chats import MAX_CHATS
from steersman_contracts.rpc.desktop_recordings import RecordingId


class AgentRecorded(msgspec.Struct, frozen=True):
    """A recording of an agent has begun. The same one again changes nothing."""

    agent_id: ChatId
    chat_id: ChatId
    """Whose desktop it uses, and whose recording it is."""
    recording_id: RecordingId


class FindDone(msgspec.Struct, frozen=True):
    """Which of these agents have nothing more to do?"""

    chat_ids: Annotated[tuple[ChatId, ...], msgspec.Meta(max_length=MAX_CHATS)]


class Done(msgspec.Struct, frozen=True):
    """Those that rest, in no order; those that are no more are among them."""

    chat_ids: tuple[ChatId, ...] = ()


RECORDED: Final = Method("store", "desktop_chats.recorded", AgentRecorded, Nothing, safe=True)
FIND_DONE: Final = Method("store", "desktop_chats.find_done", FindDone, Done, safe=True)
