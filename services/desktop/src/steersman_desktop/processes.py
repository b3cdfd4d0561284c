"""The processes of a desktop: as its user, with nothing of ours, and never longer than we live."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from steersman_desktop.places import Place


class Process:
    """A process that was started, with its whole process group."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.ended.done()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._popen.wait()
        if not self.ended.done():
            self.ended.set_result(status)

    async def stop(self, patience_s: float) -> None:
        """End it and its group: politely, then not."""
        for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 10.0)):
            if not self.running:
                break
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            await asyncio.wait({self.ended}, timeout=wait_s)


def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    place: Place,
    *,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start a program in a place.

    It is killed when this process ends, however that happens. For the kernel the parent is the
    thread that forks, so call it from the main thread; it takes some milliseconds. Not by asyncio,
    because uvloop does not close descriptors in the same way.

    Raises:
        OSError: It cannot be started.
    """
    setpriv = shutil.which("setpriv") or "setpriv"
    prefix = [setpriv, "--pdeathsig", "KILL", "--no-new-privs"]
    if place.uid is not None:
        uid = str(place.uid)
        prefix += ["--reuid", uid, "--regid", uid, "--clear-groups", "--bounding-set=-all"]
    with (place.folder / "log").open("ab") as log:
        popen = subprocess.Popen(
            [*prefix, "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=place.folder,
            start_new_session=True,
            umask=0o077,
            pass_fds=pass_fds,
        )
    return Process(popen)
