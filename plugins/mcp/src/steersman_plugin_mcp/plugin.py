"""All servers of the configuration, as one plugin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import structlog

from steersman_contracts.hooks import DynamicTools, PluginHost, PluginOff, hookimpl
from steersman_plugin_mcp.config import BadConfiguration, Configuration, parse

if TYPE_CHECKING:
    # With it comes the SDK, about a second and 30 MB: only those pay who have a server.
    from steersman_plugin_mcp.connection import Connection

log = structlog.stdlib.get_logger()

DISCOVERY_S: Final = 10.0


class Settings(msgspec.Struct, frozen=True):
    """What an administrator sets."""

    config: Annotated[
        str, msgspec.Meta(description="The file that describes the servers of this deployment.")
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
        """Read the configuration and connect in the background: nobody waits for a server.

        Raises:
            BadConfiguration: The file cannot be read.
            PluginOff: There is none.
        """
        path = (self._settings or host.settings).config.strip()
        if not path:
            raise PluginOff("no server is described: set STEERSMAN_PLUGIN_MCP_CONFIG")
        # The SDK logs what servers send, and the client the URLs; both can hold secrets.
        for name in ("mcp", "httpx2"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        configuration = await asyncio.to_thread(_read, Path(path), self._environment)
        off = [s.slug for s in configuration.servers if s.availability == "default_off"]
        self._notes = (
            *configuration.warnings,
            *(f"server {slug!r} is default_off: no chat can choose it yet" for slug in off),
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
    async def stop(self) -> None:
        """Disconnect from all servers and end those that are processes."""
        await asyncio.gather(*(connection.stop() for connection in self._connections))
        self._connections = ()
        self._offer = DynamicTools()

    def _changed(self) -> None:
        self._offer = DynamicTools(
            tuple(tool for connection in self._connections for tool in connection.tools),
            (
                *self._notes,
                *(text for connection in self._connections for text in connection.warnings),
            ),
        )


def _read(path: Path, environment: Mapping[str, str]) -> Configuration:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadConfiguration(f"the file of `config`: {error.strerror or error}") from error
    return parse(content, toml=path.suffix == ".toml", environment=environment)
