"""Every NATS subject, stream and consumer name. They are spelled here and nowhere else."""

from __future__ import annotations

import re
import zlib
from typing import Final

from steersman_contracts.ids import ChatId, RunnerId

ROOT: Final = "steersman.v1"

EVENT_STREAM: Final = "EV"
"""The event log: one subject per chat."""
EVENT_SUBJECTS: Final = f"{ROOT}.ev.*.*"
LIVE_SUBJECTS: Final = f"{ROOT}.live.*.*"
EVENT_REPUBLISH_SOURCE: Final = f"{ROOT}.ev.*.*"
EVENT_REPUBLISH_TARGET: Final = f"{ROOT}.live.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"

WORK_STREAM: Final = "WORK"
"""Work hints: at most one message per chat."""
WORK_SUBJECTS: Final = f"{ROOT}.work.*.*"
WORK_CONSUMER: Final = "turns"

DESKTOP_STREAM: Final = "DESKTOPS"
"""Which host has the desktop of a chat: at most one message per chat, which expires."""
DESKTOP_SUBJECTS: Final = f"{ROOT}.desk.*.*"

CONTROL_SUBJECTS: Final = f"{ROOT}.ctl.*"
RELAY_NUDGES: Final = f"{ROOT}.relay.nudge.*"
TOOL_CANCELS: Final = f"{ROOT}.tools.cancel.*"
ALL_TOOL_HOSTS: Final = "all"
"""For `tool_cancel`: whoever runs the call."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def token(value: str) -> str:
    """Return `value` if it is one subject token.

    Raises:
        ValueError: It is not. A dot or a wildcard inside an id would quietly address other chats.
    """
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"not a subject token: {value!r}")
    return value


def partition(chat_id: ChatId) -> int:
    """The partition of a chat, 0 to 255: lets an operator split streams without touching code."""
    return zlib.crc32(chat_id.encode()) % 256


def _chat(kind: str, chat_id: ChatId) -> str:
    return f"{ROOT}.{kind}.{partition(chat_id):02x}.{token(chat_id)}"


def chat_events(chat_id: ChatId) -> str:
    """Where the chat's events are published and stored."""
    return _chat("ev", chat_id)


def chat_live(chat_id: ChatId) -> str:
    """Where the server republishes what it stored; core NATS."""
    return _chat("live", chat_id)


def chat_work(chat_id: ChatId) -> str:
    """The work hint of a chat."""
    return _chat("work", chat_id)


def chat_desktop(chat_id: ChatId) -> str:
    """Who has the desktop of a chat."""
    return _chat("desk", chat_id)


def chat_of(subject: str) -> ChatId:
    """The chat that an event, live or work subject is about."""
    return ChatId(subject.rsplit(".", 1)[1])


def control(runner_id: RunnerId) -> str:
    """Where one chatloop hears that something happened to a chat that it owns."""
    return f"{ROOT}.ctl.{token(runner_id)}"


def relay_nudge(relay_range: int) -> str:
    """Tells the leader of an outbox range that there is something to publish."""
    return f"{ROOT}.relay.nudge.{relay_range}"


def tool_cancel(host: str) -> str:
    """Where one tool host hears that a call is no longer wanted."""
    return f"{ROOT}.tools.cancel.{token(host)}"


def rpc(service: str, method: str) -> str:
    """The subject of an RPC method, `method` being `<group>.<name>`."""
    group, name = method.split(".")
    return f"{ROOT}.rpc.{token(service)}.{token(group)}.{token(name)}"


def rpc_group(service: str, group: str) -> str:
    """All methods of a group, for permissions."""
    return f"{ROOT}.rpc.{token(service)}.{token(group)}.>"


def inbox(service: str) -> str:
    """The prefix of a service's private inboxes: replies are nobody else's business."""
    return f"_INBOX_{token(service)}"
