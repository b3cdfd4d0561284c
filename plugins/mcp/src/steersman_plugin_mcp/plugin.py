"""All servers of the configuration, as one plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import structlog

from steersman_contracts.addresses import PrivateHosts
from steersman_contracts.errors import InvalidRequest, NotFound
from steersman_contracts.hooks import DynamicTools, PluginHost, PluginOff, hookimpl
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor
from steersman_plugin_mcp.config import BadConfiguration, Configuration, parse
from steersman_plugin_mcp.pool import Pool, quiet

if TYPE_CHECKING:
    # With it comes the SDK, about a second and 30 MB: only those pay who have a server.
    from steersman_plugin_mcp.connection import Connection

log = structlog.stdlib.get_logger()

DISCOVERY_S: Final = 10.0
_NOTHING: Final = DynamicTools()


class Settings(msgspec.Struct, frozen=True):
    """What an administrator sets."""

    config: Annotated[
        str, msgspec.Meta(description="The file that describes the servers of this deployment.")
    ] = ""
    private_hosts: Annotated[
        str,
        msgspec.Meta(
            description="What servers of users may be although their addresses are not public: "
            "names, addresses and networks, each perhaps with a port, separated by commas."
        ),
    ] = ""


class McpPlugin:
    """The hooks."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        settings: Settings | None = None,
        discovery_s: float = DISCOVERY_S,
    ) -> None:
        """Offer nothing yet.

        Args:
            environment: Of the service: processes get a part of it, and `env:NAME` is in it.
            settings: In place of those of the host.
            discovery_s: Seconds that a server has to answer.
        """
        self._settings = settings
        self._pool: Pool | None = None
        self._discovery_s = discovery_s
        self._environment = environment
        self._connections: tuple[Connection, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._offer = DynamicTools()

    @hookimpl
    def settings(self) -> type[Settings]:
        """Give the type of the settings."""
        return Settings

    @hookimpl
    async def start(self, host: PluginHost) -> None:
        """Connect to the servers of the file in the background: nobody waits for one.

        Raises:
            BadConfiguration: The file cannot be read.
            PluginOff: There is none, and no store with other servers.
        """
        settings: Settings = self._settings or host.settings
        private = PrivateHosts.parse(settings.private_hosts)
        path = settings.config.strip()
        if host.rpc is not None:
            self._pool = Pool(
                host.rpc,
                self._environment,
                private=private,
                discovery_s=self._discovery_s,
                on_change=self._changed,
            )
        elif not path:
            raise PluginOff("no server is described: set STEERSMAN_PLUGIN_MCP_CONFIG")
        if path:
            await self._begin(path)

    async def _begin(self, path: str) -> None:
        quiet()
        configuration = await asyncio.to_thread(_read, Path(path), self._environment)
        off = [s.slug for s in configuration.servers if s.availability == "default_off"]
        self._notes = (
            *configuration.warnings,
            *(
                f"server {slug!r} is default_off: chats can choose only among those of the API"
                for slug in off
            ),
        )
        for note in self._notes:
            log.warning("mcp.configuration", note=note)
        connection = await asyncio.to_thread(import_module, "steersman_plugin_mcp.connection")
        connect: type[Connection] = connection.Connection
        self._connections = tuple(
            connect(server, self._environment, self._changed, discovery_s=self._discovery_s)
            for server in configuration.servers
            if server.slug not in off
        )
        self._changed()
        for connection in self._connections:
            connection.start()

    @hookimpl
    def dynamic_tools(self) -> DynamicTools:
        """The tools of the servers that answer, and a line about each that does not."""
        return self._offer

    @hookimpl
    async def chat_tools(self, chat_id: str) -> DynamicTools:
        """The tools of the servers that were added over the API, as far as this chat has them."""
        return _NOTHING if self._pool is None else await self._pool.tools_of(chat_id)

    @hookimpl
    async def answer(self, actor: Actor, question: str, body: JsonObject) -> JsonObject:
        """Begin or finish a sign-in."""
        if self._pool is None:
            raise NotFound("there is no store with MCP servers")
        match question, body:
            case "begin_login", {"server_id": str(server_id), "redirect_uri": str(redirect_uri)}:
                return {"url": await self._pool.begin_login(actor, server_id, redirect_uri)}
            case "finish_login", {"state": str(state), "code": str(code), "issuer": issuer}:
                server_id = await self._pool.finish_login(actor, state, code, issuer)
                return {"server_id": server_id}
            case _:
                raise InvalidRequest(f"nobody knows how to answer {question!r:.100}")

    @hookimpl
    async def stop(self) -> None:
        """Disconnect from all servers and end those that are processes."""
        if self._pool is not None:
            await self._pool.stop()
        await asyncio.gather(*(connection.stop() for connection in self._connections))
        self._connections = ()
        self._offer = DynamicTools()

    def _changed(self) -> None:
        self._offer = DynamicTools(
            tuple(tool for connection in self._connections for tool in connection.tools),
            (
                *self._notes,
                *(text for connection in self._connections for text in connection.warnings),
                *(() if self._pool is None else self._pool.warnings),
            ),
        )


def _read(path: Path, environment: Mapping[str, str]) -> Configuration:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadConfiguration(f"the file of `config`: {error.strerror or error}") from error
    return parse(content, toml=path.suffix == ".toml", environment=environment)
