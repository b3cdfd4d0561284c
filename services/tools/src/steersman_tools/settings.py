"""The settings of the tools service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from steersman_contracts.secret import Secret
from steersman_runtime.settings import BadSettings, ServiceSettings

PLUGIN_PREFIX: Final = "STEERSMAN_PLUGIN_"

Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """Read once, from the environment and the configuration file."""

    workspaces_dir: Annotated[str, msgspec.Meta(min_length=1)]
    """Holds one directory per chat."""
    workspace_uid: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Who owns the workspaces when the service runs as root; None is the user `nobody`."""
    max_concurrent_calls: Count = 64
    max_calls_per_chat: Count = 16
    """Calls of one chat at the same time; more wait."""
    max_waiting_calls: Annotated[int, msgspec.Meta(ge=0)] = 1_000
    """Calls over the limit of concurrent ones that may wait; more are refused for the moment."""
    max_result_bytes: Annotated[int, msgspec.Meta(ge=1024, le=256 << 10)] = 68 << 10
    """Bytes of text and JSON in one result: 64 KiB of output, and what a tool says about it.

    For models of which it is not known how much they can take.
    """
    largest_result_bytes: Annotated[int, msgspec.Meta(ge=1024, le=256 << 10)] = 256 << 10
    """In one result for a model that can take more."""
    max_file_bytes: Annotated[int, msgspec.Meta(ge=0)] = 2 << 20
    """Bytes of inline files in one result; less when NATS takes smaller messages."""
    ledger: Literal["store", "memory"] = "store"
    """Where calls are booked. In memory only for one replica alone, without a store."""
    host_lease_s: Annotated[float, msgspec.Meta(ge=0.5, le=60)] = 5.0
    """Seconds of silence after which this process counts as dead, and its calls as lost."""
    plugin_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 10.0
    """Seconds for each of a plugin's import, start and stop; one that takes longer is skipped."""
    toolset_patience_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 2.5
    """Seconds that a call waits for a tool whose host may be about to appear."""
    results_kept: Count = 10_000
    """Results in memory; this and the next two are for the ledger in memory alone."""
    results_kept_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    results_kept_bytes: Count = 64 << 20
    """Above that the oldest results lose their content; their calls are still not run again."""
    cancel_grace_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    """Seconds that a cancelled tool gets to clean up before it is left to itself."""
    templates_dir: str | None = None
    """Holds one folder per template of workspaces, each with a `template.toml`."""
    workspaces_per_user: Count = 50
    running_workspaces_per_user: Count = 20
    workspace_idle_s: Annotated[float, msgspec.Meta(gt=0)] = 4 * 3600.0
    """Seconds without a call after which a workspace is stopped; its files stay."""
    workspace_look_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 10.0
    """Seconds between looks for workspaces that are idle, or to be removed."""
    container_engine: str = ""
    """The program that runs containers, a name or path; empty takes docker or else podman."""
    container_image: Annotated[str, msgspec.Meta(min_length=1)] = "steersman-tools"
    """For templates that name none. It holds this service and what commands need."""
    container_network: str = ""
    """Of the engine; containers reach NATS in it. Empty is the engine's usual one."""
    container_nats_url: str = ""
    """How containers reach NATS; empty takes the servers of `nats_url`."""
    container_directory: str = ""
    """The workspaces directory as the engine's machine names it; empty is the same name."""
    container_options: str = ""
    """Further options for the engine's `run`, as a shell would split them."""
    container_start_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    """Seconds for a container to answer."""
    container_fetch_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 900.0
    """Seconds for an image to be fetched."""
    container_sweep_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    """Seconds between looks for containers that nobody needs any more."""
    deputy_secret: Secret | None = None
    """At least 32 characters: what connections of containers to NATS are signed with. Its issuer,
    `python -m steersman_tools.issuer`, is in the configuration of NATS."""
    nats_account: Annotated[str, msgspec.Meta(min_length=1)] = "STEER"
    """Of NATS, in which containers end up."""
    diff_quiet_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    """Seconds after a call that changed files until watchers are told what has changed."""
    sandbox: Literal["auto", "require", "off"] = "auto"
    """Bubblewrap round the commands of models: where it works, always or no command at all, never.

    `auto` warns in the log where it does not work.
    """
    cgroups: Literal["auto", "off"] = "auto"
    """Control groups of version 2 for the commands of models: where the service may make them."""
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


def plugin_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The part of the environment that is for plugins; `…_FILE` names a file with the value.

    Raises:
        BadSettings: Such a file cannot be read.
    """
    found: dict[str, str] = {}
    for name, value in (os.environ if environment is None else environment).items():
        if not name.startswith(PLUGIN_PREFIX):
            continue
        if not name.endswith("_FILE"):
            found[name] = value
            continue
        try:
            found[name.removesuffix("_FILE")] = Path(value).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"{name}: cannot read {value!r}: {type(error).__name__}") from error
    return found
