"""The set-up of one workspace: its directory, and the script of its template."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from steersman_contracts.errors import Unavailable
from steersman_contracts.sandbox import Sandbox
from steersman_tools.confined import Output, run_confined
from steersman_tools.templates import Setup

_HEAD: Final = 1 << 10
_TAIL: Final = 3 << 10
_SHOWN: Final = 2 << 10
"""Bytes of what the set-up printed last that are shown while it runs."""
_BASH: Final = "/bin/bash"


class SetupFailed(Exception):
    """The workspace cannot be used; the text says why, with the end of what was printed."""


async def set_up(
    path: Path,
    setup: Setup,
    variables: Mapping[str, str],
    sandbox: Sandbox,
    progress: Callable[[str], None],
) -> None:
    """Run the script of a template.

    Args:
        path: The workspace.
        setup: The script, and how long it may take.
        variables: What it sees beside the usual.
        sandbox: What confines it.
        progress: Told the end of what it has printed, as it prints.

    Raises:
        SetupFailed: It failed, took too long or could not be started.
    """
    shell = _BASH if os.access(_BASH, os.X_OK) else "/bin/sh"
    try:
        ended = await run_confined(
            (shell, "-e", "-c", setup.script),
            path,
            sandbox,
            timeout_s=setup.timeout_s,
            output=Output(_HEAD, _TAIL),
            variables=variables,
            on_output=lambda output: progress(_last(output)),
        )
    except Unavailable as error:
        raise SetupFailed(str(error)) from error
    if ended.timed_out:
        raise SetupFailed(_with(f"the set-up took longer than {setup.timeout_s:g} s", ended.output))
    if ended.code:
        raise SetupFailed(_with(f"the set-up ended with exit code {ended.code}", ended.output))


async def unlock(path: Path, sandbox: Sandbox) -> None:
    """Give the owner of a workspace all rights in it again, so that it can be removed."""
    argv = ("/bin/sh", "-c", "chmod -R u+rwX .")
    await run_confined(argv, path, sandbox, timeout_s=60, output=Output(0, 1 << 10))


async def make_directory(make: Callable[[], Path]) -> Path:
    """Make the directory of a workspace.

    Raises:
        SetupFailed: The system does not let us.
    """
    try:
        return await asyncio.to_thread(make)
    except OSError as error:
        raise SetupFailed(f"its directory cannot be made: {error.strerror}") from error


def _last(output: Output) -> str:
    printed = bytes(output.tail or output.head)[-_SHOWN:]
    return printed.decode(errors="replace").rsplit("\r", 1)[-1].strip() or "…"


def _with(words: str, output: Output) -> str:
    # PostgreSQL has no place for the character U+0000.
    printed = output.text.replace("\0", "\ufffd").strip()
    return f"{words}; it printed:\n{printed}" if printed else f"{words}, and printed nothing"
