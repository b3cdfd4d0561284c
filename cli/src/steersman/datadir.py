"""The data directory: what lies where, who holds it, and the secrets in it."""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from steersman.private import read_or_create, write_private

VARIABLE = "STEERSMAN_DATA_DIR"


@dataclass(frozen=True)
class DataDir:
    """The paths below one data directory."""

    root: Path

    @property
    def postgres(self) -> Path:
        """The embedded PostgreSQL."""
        return self.root / "postgres"

    @property
    def nats(self) -> Path:
        """The embedded nats-server."""
        return self.root / "nats"

    @property
    def workspaces(self) -> Path:
        """The files of the chats' workspaces."""
        return self.root / "workspaces"

    @property
    def recordings(self) -> Path:
        """Recordings of desktops, made by the service when there are any."""
        return self.root / "recordings"

    @property
    def secrets(self) -> Path:
        """Keys and passwords, one file each."""
        return self.root / "secrets"

    @property
    def postgres_password(self) -> Path:
        """Of the role that owns the embedded database."""
        return self.secrets / "postgres-password"

    @property
    def api_token(self) -> Path:
        """The first admin's token; `steersman chat` finds it here."""
        return self.root / "api-token"

    @property
    def endpoint(self) -> Path:
        """Where the running gateway is, as JSON."""
        return self.root / "endpoint.json"

    def create(self) -> None:
        """Make the directory and the folders that services expect. Parents keep their rights."""
        # As root, other accounts own the workspaces and pass through here; they see no names.
        passable = 0o711 if os.geteuid() == 0 else 0o700
        self.root.mkdir(mode=passable, parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        self.workspaces.mkdir(mode=passable, exist_ok=True)

    def secret_key(self) -> str:
        """What provider keys are encrypted with: 32 bytes in base64. Losing it loses them."""
        return read_or_create(
            self.secrets / "secret-key", lambda: base64.b64encode(secrets.token_bytes(32)).decode()
        )

    def password(self, name: str) -> str:
        """A password of its own for each part and user."""
        return read_or_create(self.secrets / name, lambda: secrets.token_urlsafe(24))


def default_root(env: Mapping[str, str], *, is_root: bool) -> Path:
    """Where data goes unless somebody says otherwise."""
    if is_root:
        return Path("/var/lib/steersman")
    home = env.get("XDG_DATA_HOME")
    # The specification says to ignore a relative path.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".local" / "share"
    return base / "steersman"


def data_dir(path: Path | None) -> DataDir:
    """The directory that was asked for, or the default one."""
    root = path or default_root(os.environ, is_root=os.geteuid() == 0)
    return DataDir(root.expanduser().absolute())


class InUse(RuntimeError):
    """Another process holds the data directory."""

    def __init__(self, root: Path, pid: int | None, url: str | None) -> None:
        who = f"process {pid}" if pid else "another process"
        where = f", at {url}" if url else ""
        super().__init__(f"{root} is in use: {who} runs it{where}")
        self.pid, self.url = pid, url


class Held:
    """The lock on a data directory."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def announce(self, url: str | None) -> None:
        """Tell whoever comes second who holds it, and where."""
        text = json.dumps({"pid": os.getpid(), "url": url}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)


@contextmanager
def held(data: DataDir) -> Generator[Held]:
    """Hold the directory. The kernel lets go of it however this process ends.

    Raises:
        InUse: Somebody else holds it.
    """
    path = data.root / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read(path)
            raise InUse(data.root, holder.get("pid"), holder.get("url")) from error
        lock = Held(descriptor)
        lock.announce(None)
        yield lock
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Write a private JSON file in one step."""
    write_private(path, json.dumps(value, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):  # not written yet
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
