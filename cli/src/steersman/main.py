"""The `steersman` command. Each subcommand lives in a module of its own, loaded when it is used."""

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from keyword import iskeyword
from typing import Final, cast

import click

_COMMANDS: Final = {
    "up": "steersman.up",
    "chat": "steersman.chat",
    "provider": "steersman.providers",
    "model": "steersman.models",
    "usage": "steersman.usage",
    "user": "steersman.users",
    "workspace": "steersman.workspaces",
    "desktop": "steersman.desktops",
    "skill": "steersman.skills",
    "prompt": "steersman.prompts",
    "instructions": "steersman.prompts",
    "policy": "steersman.policy",
    "plugins": "steersman.plugins",
    "mcp": "steersman.mcp",
    "doctor": "steersman.doctor",
    "migrate": "steersman.migrate",
    "import": "steersman.imports",
}


class _Commands(click.Group):
    """Finds a subcommand as the function of its own name in its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, module in _COMMANDS.items() if find_spec(module) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None or find_spec(module) is None:
            return None
        function = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        return cast("click.Command", getattr(import_module(module), function))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("steersman"), prog_name="steersman")
def main() -> None:
    """Steersman: AI agent chats that people can steer, on your own machines.

    `steersman up` starts everything here and prints where it is; `steersman doctor` says what is
    missing on this machine and what that disables.
    """
