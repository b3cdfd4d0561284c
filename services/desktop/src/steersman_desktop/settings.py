"""The settings of the desktop service."""

from __future__ import annotations

from typing import Annotated

import msgspec

from steersman_desktop.control import AGENT_S
from steersman_runtime.settings import Secret, ServiceSettings

Seconds = Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 3600)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1000)]
GEOMETRY_PATTERN = r"^[1-9][0-9]{2,3}x[1-9][0-9]{2,3}$"


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """Read once, from the environment and the configuration file."""

    geometry: Annotated[str, msgspec.Meta(pattern=GEOMETRY_PATTERN)] = "1280x800"
    """Native size of new desktops: 640x480 to 4096x2304."""
    max_desktops: Count = 8
    """Desktops on this host; each needs about 55 MB, with a browser 330."""
    max_desktops_per_user: Count = 4
    """Of one person on all hosts: of all their chats, whoever or whatever started them."""
    max_viewers: Count = 8
    """Of one desktop."""
    idle_stop_s: Seconds = 900.0
    """A desktop that nobody used or watched for so long is stopped."""
    control_idle_s: Seconds = 60.0
    """A person who does nothing for so long loses control."""
    control_absent_s: Seconds = 15.0
    """A person whose last view is gone for so long loses control."""
    agent_idle_s: Seconds = AGENT_S
    """Of agents that share a desktop one that does nothing for so long leaves it to the others."""
    ticket_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 30.0
    """How long a ticket for the live view is good."""
    start_timeout_s: Seconds = 20.0
    run_dir: str = ""
    """Sockets, cookies and home directories of desktops; empty is a folder in the temporary one."""
    uid_base: Annotated[int, msgspec.Meta(ge=1000, le=2**31 - 2000)] = 61_200
    """As root, each desktop runs as a user of its own: this number plus that of its place."""
    browser_sandbox: bool = True
    """False only where a container forbids user namespaces: pages then run without a sandbox."""
    advertise: str = ""
    """`host:port` under which gateways reach this instance; empty finds it out."""
    recordings_dir: str = ""
    """Of all instances, which else do not see each other's; empty is one in the temporary one.

    Name one that belongs to this deployment alone: what is there of chats that its store does not
    know is deleted. The temporary one may be shared; only its oldest recordings are deleted.
    """
    record: bool = False
    """Record every desktop from its start."""
    record_agents: bool = True
    """Record what agents do that were spawned to use a desktop, from their first action on."""
    max_recording_s: Seconds = 3600.0
    max_recording_bytes: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 40)] = 500 << 20
    keep_recordings_s: Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 24 * 3600)] = 7 * 86_400.0
    """Recordings that began longer ago are deleted."""
    deleted_check_s: Seconds = 15.0
    """How often to ask whether chats were deleted; their desktops and recordings go with them."""
    vnc_address: str = ""
    """`host:port` or `unix:/path` of a VNC server to use in place of desktops of our own."""
    vnc_password: Secret = Secret("")
    vnc_allowed: str = ""
    """VNC servers that people may name for their chats: networks and host names between spaces,
    each with `:port` or `:first-last` (5900 to 5999 without). Empty: none."""
