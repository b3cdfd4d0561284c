"""The five services as commands: which environment each of them gets, and nothing more."""

import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from steersman.command import Command
from steersman.datadir import DataDir
from steersman.logs import Level
from steersman.ports import listen

# Stopped in the reverse order, so that each can still finish with those that it depends on.
STAGES: Final[Mapping[str, int]] = {
    "store": 1,
    "tools": 2,
    "desktop": 2,
    "chatloop": 3,
    "gateway": 4,
}
PARTS_STAGE: Final = 0
DEPUTY_SECRET: Final = "deputies"
"""The name of the secret that connections of containers are signed with."""
# Longer than the time services give to running work, `shutdown_timeout_s`.
_STOP_TIMEOUT_S: Final = 15.0
_INHERITED: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "STEERSMAN_CONFIG",
)
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# Where Docker and Podman are, for workspaces in containers.
_ENGINES: Final = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("CONTAINER_HOST", "CONTAINER_CONNECTION", "XDG_RUNTIME_DIR"),
)
# Under the names that the providers' own programs know, the preferred one first.
_PROVIDER_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "STEERSMAN_ANTHROPIC_API_KEY": ("ANTHROPIC_API_KEY",),
    "STEERSMAN_OPENAI_API_KEY": ("OPENAI_API_KEY",),
    "STEERSMAN_GEMINI_API_KEY": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "STEERSMAN_AWS_REGION": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "STEERSMAN_AWS_BEARER_TOKEN_BEDROCK": ("AWS_BEARER_TOKEN_BEDROCK",),
    "STEERSMAN_AWS_ACCESS_KEY_ID": ("AWS_ACCESS_KEY_ID",),
    "STEERSMAN_AWS_SECRET_ACCESS_KEY": ("AWS_SECRET_ACCESS_KEY",),
    "STEERSMAN_AWS_SESSION_TOKEN": ("AWS_SESSION_TOKEN",),
    "STEERSMAN_GOOGLE_CREDENTIALS": (),
    "STEERSMAN_GOOGLE_CREDENTIALS_FILE": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "STEERSMAN_GOOGLE_CLOUD_PROJECT": ("GOOGLE_CLOUD_PROJECT",),
    "STEERSMAN_GOOGLE_CLOUD_LOCATION": ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION"),
}
_EXTRA: Final[Mapping[str, tuple[str, ...]]] = {
    # These two speak to the outside.
    "chatloop": (*_PROXIES, *(name.lower() for name in _PROXIES)),
    "tools": (*_PROXIES, *(name.lower() for name in _PROXIES), *_ENGINES),
}

_PLUGINS: Final = "STEERSMAN_PLUGIN_"
"""What the settings of plugins begin with; they go to the service that hosts them."""


@dataclass(frozen=True)
class Wiring:
    """What the services are told about each other and about the parts below them."""

    data: DataDir
    nats_urls: Mapping[str, str]
    nats_system_url: str | None
    database_url: str
    secret_key: str
    public_url: str
    log_level: Level
    local_model_url: str | None = None
    local_model_key: str | None = None


@dataclass(frozen=True)
class Service:
    """One process of a service, with its listening socket."""

    name: str
    service: str
    listener: socket.socket
    command: Command

    @property
    def address(self) -> tuple[str, int]:
        """Where its health is asked for, from this machine."""
        host, port = self.listener.getsockname()[:2]
        return reachable(host), port


def service(kind: str, name: str, listener: socket.socket, wiring: Wiring) -> Service:
    """How to start one process of a service."""
    env = environment(kind, wiring, os.environ) | {
        "STEERSMAN_LISTEN": f"fd:{listener.fileno()}",
        "STEERSMAN_INSTANCE": name,
    }
    command = Command(
        name=name,
        # -P: what lies in the working directory must never be imported.
        argv=(sys.executable, "-P", "-m", f"steersman_{kind}"),
        env=env,
        cwd=wiring.data.root,
        pass_fds=(listener.fileno(),),
        stop_timeout_s=_STOP_TIMEOUT_S,
    )
    return Service(name, kind, listener, command)


def environment(kind: str, wiring: Wiring, env: Mapping[str, str]) -> dict[str, str]:
    """Everything a service finds in its environment, except for its socket and its name."""
    own = {
        "STEERSMAN_NATS_URL": wiring.nats_urls[kind],
        "STEERSMAN_LOG_FORMAT": "json",
        "STEERSMAN_LOG_LEVEL": wiring.log_level,
    }
    if kind == "gateway":
        own["STEERSMAN_PUBLIC_URL"] = wiring.public_url
    elif kind == "tools":
        own["STEERSMAN_WORKSPACES_DIR"] = str(wiring.data.workspaces)
        if wiring.nats_system_url is not None:  # the server is ours, and knows the issuer
            own["STEERSMAN_TOOLS_DEPUTY_SECRET"] = wiring.data.password(DEPUTY_SECRET)
    elif kind == "desktop":
        own["STEERSMAN_DESKTOP_RECORDINGS_DIR"] = str(wiring.data.recordings)
    elif kind == "store":
        own |= _store(wiring) | _provider_keys(env)
    return inherited(kind, env) | own


def _store(wiring: Wiring) -> dict[str, str]:
    optional = {
        "STEERSMAN_NATS_SYSTEM_URL": wiring.nats_system_url,
        "STEERSMAN_LOCAL_MODEL_URL": wiring.local_model_url,
        "STEERSMAN_LOCAL_MODEL_KEY": wiring.local_model_key,
    }
    return {
        "STEERSMAN_DATABASE_URL": wiring.database_url,
        "STEERSMAN_SECRET_KEY": wiring.secret_key,
    } | {name: value for name, value in optional.items() if value is not None}


def _provider_keys(env: Mapping[str, str]) -> dict[str, str]:
    found = {
        name: next((env[known] for known in (name, *names) if env.get(known)), None)
        for name, names in _PROVIDER_KEYS.items()
    }
    file = found["STEERSMAN_GOOGLE_CREDENTIALS_FILE"]
    if file is not None and not os.access(file, os.R_OK):
        # It was named for other programs, and need not be there.
        found["STEERSMAN_GOOGLE_CREDENTIALS_FILE"] = None
    return {name: key for name, key in found.items() if key is not None}


def inherited(kind: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment that a process may see: of secrets, only those meant for it."""
    names = {*_INHERITED, *(_EXTRA.get(kind, ()) if kind else ())}
    prefixes = ("LC_", f"STEERSMAN_{kind.upper()}_") if kind else ("LC_",)
    if kind == "tools":
        prefixes += (_PLUGINS,)
    return {
        name: value for name, value in env.items() if name in names or name.startswith(prefixes)
    }


def instances(kind: str, count: int) -> Iterable[str]:
    """The names of a service's processes."""
    return (kind,) if count == 1 else tuple(f"{kind}-{number + 1}" for number in range(count))


def listeners(host: str, first: socket.socket, count: int) -> list[socket.socket]:
    """The sockets of the gateways: the one that was announced, and a port each for the others."""
    return [first, *(listen(host, 0) for _ in range(count - 1))]


def reachable(host: str) -> str:
    """The address of this machine under which a server that is bound to `host` is reached."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def url(host: str, port: int) -> str:
    """As a browser on this machine would write it."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
