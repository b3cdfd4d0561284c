"""Every NATS subject, stream and consumer name. They are spelled here and nowhere else."""

from __future__ import annotations

import re
import zlib
from typing import Final

from steersman_contracts.ids import ChatId, RunnerId, UserId

ROOT: Final = "steersman.v1"

EVENT_STREAM: Final = "EV"
"""The event log: one subject per chat, and one per person for the list of their chats."""
EVENT_SUBJECTS: Final = f"{ROOT}.ev.*.*"
LIVE_SUBJECTS: Final = f"{ROOT}.live.*.*"
EVENT_REPUBLISH_SOURCE: Final = f"{ROOT}.ev.*.*"
EVENT_REPUBLISH_TARGET: Final = f"{ROOT}.live.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"

ME: Final = "me"
"""Stands where the partition of a chat stands. Partitions are two hex digits, so it is none."""
FEED_SUBJECTS: Final = f"{ROOT}.ev.{ME}.*"
"""The feeds of people; `EVENT_SUBJECTS` covers them too."""
FEED_LIVE_SUBJECTS: Final = f"{ROOT}.live.{ME}.*"

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
TOOL_RELOADS: Final = f"{ROOT}.tools.reload"
"""Tells every replica of the tools service to load its plugins anew."""
TOOL_WORKSPACES: Final = f"{ROOT}.tools.workspaces"
"""Tells every replica of the tools service what has become of a workspace."""
TOOLSET_BEATS: Final = f"{ROOT}.toolset.*.beat.*"
TOOLSET_CATALOGS: Final = f"{ROOT}.toolset.*.catalog.*"
TOOLSET_CALLS: Final = f"{ROOT}.toolset.*.calls.*"
DEPUTIES: Final = f"{ROOT}.deputy.*.*.*"
"""What the tools service asks of its deputies, one of which runs in each container."""
CONNECTIONS: Final = "$SYS.REQ.USER.AUTH"
"""Where the server asks about connections that it does not know; see its authorization callout."""
ALL_TOOL_HOSTS: Final = "all"
"""For `tool_cancel`: whoever runs the call."""

UNNAMED_CHATS: Final = f"{ROOT}.unnamed"
"""Chats that would like a title: the body is the id. Heard by one chatloop, or by none."""

PROVIDERS_CHANGED: Final = f"{ROOT}.providers"
"""Tells every chatloop that an admin has changed providers or models; the body is empty."""

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


def vnc_server(lease: str) -> str:
    """Which chat's desktop is on a VNC server of somebody else."""
    return f"{ROOT}.desk.vnc.{token(lease)}"


def chat_of(subject: str) -> ChatId:
    """The chat that an event, live or work subject is about.

    Raises:
        ValueError: It is about all chats of a person.
    """
    _, where, last = subject.rsplit(".", 2)
    if where == ME:
        raise ValueError(f"not about one chat: {subject!r}")
    return ChatId(last)


def my_events(user_id: UserId) -> str:
    """Where events that change the list of a person's chats are published a second time."""
    return f"{ROOT}.ev.{ME}.{token(user_id)}"


def live_copy(events: str) -> str:
    """Where the server republishes what it stored under `events`.

    Raises:
        ValueError: It stores nothing under that.
    """
    kind, partition_or_me, last = events.removeprefix(f"{ROOT}.").split(".")
    if kind != "ev":
        raise ValueError(f"not a subject of the event log: {events!r}")
    return f"{ROOT}.live.{partition_or_me}.{last}"


def control(runner_id: RunnerId) -> str:
    """Where one chatloop hears that something happened to a chat that it owns."""
    return f"{ROOT}.ctl.{token(runner_id)}"


def relay_nudge(relay_range: int) -> str:
    """Tells the leader of an outbox range that there is something to publish."""
    return f"{ROOT}.relay.nudge.{relay_range}"


def tool_cancel(host: str) -> str:
    """Where one tool host hears that a call is no longer wanted."""
    return f"{ROOT}.tools.cancel.{token(host)}"


def tool_host(host: str, method: str) -> str:
    """A method of one certain replica of the tools service."""
    group, name = method.split(".")
    return f"{ROOT}.rpc.tools.host.{token(host)}.{token(group)}.{token(name)}"


def toolset(name: str, method: str) -> str:
    """A method of a tool host that is not ours; hosts of one set share its requests."""
    group, action = method.split(".")
    return f"{ROOT}.toolset.{token(name)}.{token(group)}.{token(action)}"


def toolset_beat(name: str, host: str) -> str:
    """Where one host of a set says that it is there."""
    return f"{ROOT}.toolset.{token(name)}.beat.{token(host)}"


def deputy(workspace_id: str, method: str) -> str:
    """A method of the deputy of the tools service in the container of one workspace."""
    group, action = method.split(".")
    return f"{ROOT}.deputy.{token(workspace_id)}.{token(group)}.{token(action)}"


def deputy_methods(workspace_id: str) -> str:
    """All methods of one deputy, for permissions."""
    return f"{ROOT}.deputy.{token(workspace_id)}.*.*"


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
