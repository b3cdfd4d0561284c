"""What a running tool is given, and its progress on the way to whoever listens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from steersman_contracts.ids import ChatId
from steersman_contracts.plugin import LoadedPlugin
from steersman_contracts.rpc.caller import Caller
from steersman_contracts.rpc.tools import CallProgress
from steersman_contracts.sandbox import Sandbox
from steersman_contracts.workspaces import Desk, WorkspaceId
from steersman_tools.results import cut
from steersman_tools.workspaces import Workspaces

INTERVAL_S: Final = 0.1
MAX_PROGRESS_BYTES: Final = 4 << 10


class Progress:
    """Passes on a text at once, then at most one per interval, always the newest."""

    def __init__(self, publish: Callable[[CallProgress], None]) -> None:
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._seq = 0
        self._next: str | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False

    def report(self, text: str) -> None:
        """Take a text, from any thread."""
        if threading.get_ident() == self._thread:
            self._report(text)
        else:
            self._loop.call_soon_threadsafe(self._report, text)

    def close(self) -> None:
        """Publish nothing more."""
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()

    def _report(self, text: str) -> None:
        if self._closed:
            return
        self._next = text
        if self._pause is None:
            self._send()

    def _send(self) -> None:
        self._pause = None
        if self._next is None:
            return
        text = self._next.encode(errors="replace").decode()
        self._next = None
        self._seq += 1
        self._pause = self._loop.call_later(INTERVAL_S, self._send)
        self._publish(CallProgress(self._seq, cut(text, MAX_PROGRESS_BYTES)))


class CallPlace(NamedTuple):
    """Where a call acts: a workspace, not the plain directory of its chat."""

    path: Path
    workspace_id: WorkspaceId
    environment: Mapping[str, str]
    root_id: ChatId
    """The outermost chat of the family that shares it."""
    driver: str


class CallContext:
    """The `ToolContext` of one call."""

    def __init__(
        self,
        *,
        chat_id: ChatId,
        call_id: str,
        timeout_s: float,
        workspaces: Workspaces,
        progress: Progress,
        rpc: Caller | None = None,
        host: str = "",
        result_bytes: int = 68 << 10,
        no_workspace: bool = False,
    ) -> None:
        self.host = host
        self.no_workspace = no_workspace
        """Whoever asks knows that the chat had none a moment ago."""
        self.result_bytes = result_bytes
        self.plugin: LoadedPlugin | None = None
        """Whose tool runs; None for one of another host."""
        self.place: CallPlace | None = None
        """None: the plain directory of the chat."""
        self.desk: Desk | None = None
        self.rpc = rpc
        self.chat_id = chat_id
        self.call_id = call_id
        self.timeout_s = timeout_s
        self.cancelled = False
        self._workspaces = workspaces
        self._progress = progress

    @property
    def workspace(self) -> Path:
        return self._workspaces.path(self.chat_id) if self.place is None else self.place.path

    @property
    def environment(self) -> Mapping[str, str]:
        return {} if self.place is None else self.place.environment

    @property
    def sandbox(self) -> Sandbox:
        return self._workspaces.sandbox

    @property
    def settings(self) -> Any:
        return None if self.plugin is None else self.plugin.settings

    def progress(self, text: str) -> None:
        self._progress.report(text)

    async def secret(self, name: str) -> str | None:
        return None if self.plugin is None else await self.plugin.secret(name)
