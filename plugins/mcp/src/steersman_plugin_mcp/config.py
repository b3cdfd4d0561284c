"""Which servers there are: read from the administrator's file, secrets from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from steersman_contracts.rpc.mcp import McpAvailability, McpSlug, OpenedServer

MAX_SERVERS: Final = 50
_MAX_FILE_BYTES: Final = 1 << 20
_FROM_ENVIRONMENT: Final = "env:"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]


class NoAuth(msgspec.Struct, frozen=True, tag_field="type", tag="none", forbid_unknown_fields=True):
    """Nothing is sent."""


class ApiKey(
    msgspec.Struct, frozen=True, tag_field="type", tag="api_key", forbid_unknown_fields=True
):
    """One header. `Authorization` gets `Bearer ` before the key."""

    key: Text
    header: Text = "Authorization"


class CustomHeaders(
    msgspec.Struct, frozen=True, tag_field="type", tag="headers", forbid_unknown_fields=True
):
    """Headers as they are given."""

    headers: dict[str, Text]


Auth: TypeAlias = NoAuth | ApiKey | CustomHeaders


class _Server(msgspec.Struct, frozen=True, kw_only=True, tag_field="transport"):
    slug: McpSlug
    availability: McpAvailability = "default_on"
    allow: tuple[Text, ...] = ()
    """Patterns of the server's own tool names; none is all of them."""
    deny: tuple[Text, ...] = ()
    """Wins over `allow`."""
    call_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 120.0
    needs_approval: bool = False
    """A person is asked before each call of each of its tools."""
    read_only: tuple[Text, ...] = ()
    """Patterns of the server's own tool names that change nothing anywhere. You say so: what the
    server says of itself (`readOnlyHint`) is not believed."""

    def changes_nothing(self, raw_name: str) -> bool:
        """Whether the administrator says that a tool of that name only looks."""
        return any(fnmatchcase(raw_name, name) for name in self.read_only)

    def offers(self, raw_name: str) -> bool:
        """Whether the administrator lets a tool of that name be used."""
        allowed = not self.allow or any(fnmatchcase(raw_name, name) for name in self.allow)
        return allowed and not any(fnmatchcase(raw_name, name) for name in self.deny)


class HttpServer(_Server, frozen=True, tag="http", forbid_unknown_fields=True):
    """Streamable HTTP."""

    url: Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://[^\s]+\Z", max_length=2_000)]
    auth: Auth = NoAuth()


class SseServer(_Server, frozen=True, tag="sse", forbid_unknown_fields=True):
    """HTTP with server-sent events, as before 2025."""

    url: Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://[^\s]+\Z", max_length=2_000)]
    auth: Auth = NoAuth()


class StdioServer(_Server, frozen=True, tag="stdio", forbid_unknown_fields=True):
    """A process of ours, spoken to over its input and output."""

    command: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=200)]
    env: dict[str, Text] = {}
    cwd: Text | None = None


Server: TypeAlias = HttpServer | SseServer | StdioServer


class Configuration(msgspec.Struct, frozen=True):
    """What can be used, and what is wrong with the rest."""

    servers: tuple[Server, ...] = ()
    warnings: tuple[str, ...] = ()


class BadConfiguration(ValueError):
    """What is wrong with the file, without any value from it that could be a secret."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    servers: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_SERVERS)]


def parse(content: bytes, *, toml: bool, environment: Mapping[str, str]) -> Configuration:
    """Read the file. A server that is described wrongly costs itself alone.

    Args:
        content: Of the file.
        toml: TOML, or else JSON.
        environment: Holds what `env:NAME` stands for.

    Raises:
        BadConfiguration: The file as a whole cannot be read.
    """
    if len(content) > _MAX_FILE_BYTES:
        raise BadConfiguration(f"it has more than {_MAX_FILE_BYTES} bytes")
    decode = msgspec.toml.decode if toml else msgspec.json.decode
    try:
        file = decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # A syntax error of TOML can quote the line, which may hold a key.
        known = isinstance(error, msgspec.ValidationError)
        raise BadConfiguration(
            str(error) if known else f"it is not valid {'TOML' if toml else 'JSON'}"
        ) from None
    servers: dict[str, Server] = {}
    warnings: list[str] = []
    for number, described in enumerate(file.servers, start=1):
        try:
            server = _server(described, environment)
        except BadConfiguration as error:
            slug = described.get("slug")
            name = f"{slug!r:.40}" if isinstance(slug, str) else f"number {number}"
            warnings.append(f"server {name} is not used: {error}")
            continue
        if server.slug in servers:
            warnings.append(f"server number {number} is not used: {server.slug!r} is taken")
        else:
            servers[server.slug] = server
    return Configuration(tuple(servers.values()), tuple(warnings))


def _server(described: dict[str, Any], environment: Mapping[str, str]) -> Server:
    try:
        server = msgspec.convert(described, Server)
    except msgspec.ValidationError as error:
        raise BadConfiguration(str(error)) from None
    if isinstance(server, StdioServer):
        filled = {name: _value(value, environment) for name, value in server.env.items()}
        return msgspec.structs.replace(server, env=filled)
    if "@" in server.url.split("/")[2]:
        raise BadConfiguration("the URL holds a password; use `auth`")
    return msgspec.structs.replace(server, auth=_filled(server.auth, environment))


def _filled(auth: Auth, environment: Mapping[str, str]) -> Auth:
    headers = headers_of(auth)
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise BadConfiguration(f"{name!r:.100} cannot be the name of a header")
        if not value.isascii() or not value.isprintable():
            raise BadConfiguration(f"the header {name} has characters that HTTP cannot send")
    match auth:
        case ApiKey():
            filled = msgspec.structs.replace(auth, key=_value(auth.key, environment))
        case CustomHeaders():
            values = {name: _value(value, environment) for name, value in auth.headers.items()}
            filled = CustomHeaders(values)
        case NoAuth():
            return auth
    if any(not v.isascii() or not v.isprintable() for v in headers_of(filled).values()):
        raise BadConfiguration("a header from the environment has characters HTTP cannot send")
    return filled


def headers_of(auth: Auth) -> dict[str, str]:
    """The headers of every request to the server."""
    match auth:
        case NoAuth():
            return {}
        case ApiKey(key=key, header=header):
            return {header: f"Bearer {key}" if header.lower() == "authorization" else key}
        case CustomHeaders(headers=headers):
            return dict(headers)


def _value(value: str, environment: Mapping[str, str]) -> str:
    if not value.startswith(_FROM_ENVIRONMENT):
        return value
    name = value.removeprefix(_FROM_ENVIRONMENT)
    # The service's own secrets are nobody else's, not even by mistake.
    if name.startswith("STEERSMAN_") and not name.startswith("STEERSMAN_PLUGIN_"):
        raise BadConfiguration(f"the variable {name!r:.100} belongs to the service itself")
    found = environment.get(name, "").strip()
    if not found:
        raise BadConfiguration(f"the environment has no {name!r:.100}")
    return found


def of_store(opened: OpenedServer) -> Server:
    """A server that was added over the API. The store has checked it."""
    common: dict[str, Any] = {
        "slug": opened.slug,
        "allow": opened.allow,
        "deny": opened.deny,
        "call_timeout_s": opened.call_timeout_s,
        "needs_approval": opened.needs_approval,
        "read_only": opened.read_only,
    }
    if opened.transport == "stdio":
        return StdioServer(command=opened.command, env=opened.env, **common)
    auth = CustomHeaders(opened.headers) if opened.headers else NoAuth()
    kind = HttpServer if opened.transport == "http" else SseServer
    return kind(url=opened.url or "", auth=auth, **common)
