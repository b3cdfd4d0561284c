"""The settings of the tools service."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from steersman_runtime.settings import ServiceSettings

Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """Read once, from the environment and the configuration file."""

    workspaces_dir: Annotated[str, msgspec.Meta(min_length=1)]
    """Holds one directory per chat."""
    workspace_uid: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Who owns the workspaces when the service runs as root; None is the user `nobody`."""
    max_concurrent_calls: Count = 64
    max_waiting_calls: Annotated[int, msgspec.Meta(ge=0)] = 1_000
    """Calls over the limit of concurrent ones that may wait; more are refused for the moment."""
    max_result_bytes: Annotated[int, msgspec.Meta(ge=1024, le=256 << 10)] = 68 << 10
    """Bytes of text and JSON in one result: 64 KiB of output, and what a tool says about it."""
    max_file_bytes: Annotated[int, msgspec.Meta(ge=0)] = 2 << 20
    """Bytes of inline files in one result; less when NATS takes smaller messages."""
    results_kept: Count = 10_000
    results_kept_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    results_kept_bytes: Count = 64 << 20
    """Above that the oldest results lose their content; their calls are still not run again."""
    cancel_grace_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    """Seconds that a cancelled tool gets to clean up before it is left to itself."""
    sandbox: Literal["auto", "require", "off"] = "auto"
    """Bubblewrap round the commands of models: where it works, always or no command at all, never.

    `auto` warns in the log where it does not work.
    """
    sandbox_network: bool = False
    """Whether commands in the sandbox reach the network, and with it what listens on localhost."""
    sandbox_readable: str = ""
    """Further directories that commands in the sandbox may read, separated by colons."""
    command_processes: Annotated[int, msgspec.Meta(ge=16)] = 512
    """Processes and threads of one command."""
    command_memory_bytes: Annotated[int, msgspec.Meta(ge=64 << 20)] = 4 << 30
    """Private memory of each process of a command."""
    command_file_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 4 << 30
    """Of each file that a command writes."""
    disk_reserve_bytes: Annotated[int, msgspec.Meta(ge=0)] = 256 << 20
    """When less is free on the disk of the workspaces, running commands are ended."""
