"""`steersman plugins`: make a new plugin, see those of a deployment, load them anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from steersman.plugin_kit import KitExists, write_kit
from steersman.remote import run, table, where

if TYPE_CHECKING:
    from steersman_contracts.rpc.tools import PluginReport

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MAX_NAME: Final = 40


@click.group()
def plugins() -> None:
    """Make plugins, see which are in use, and load them anew.

    \b
    Examples:
      steersman plugins new word-count
      steersman plugins list
      steersman plugins reload
    """  # noqa: D301  # click's own mark, not an escape


@plugins.command()
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=".",
    help="The folder in which the package is made; this one unless given.",
)
def new(*, name: str, into: Path) -> None:
    """Make the package of a new plugin NAME, with a test that passes.

    It works as it is: one tool, a README, a test of its own and the conformance test.
    """
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise click.UsageError(f"{name!r} is no name for a plugin: a-z, 0-9 and single dashes")
    try:
        made = write_kit(name, into)
    except KitExists as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{made} is a plugin with one tool")
    click.echo(f"test it:     cd {made} && python -m pytest")
    click.echo(f"install it:  pip install --editable {made}, then steersman plugins reload")


@plugins.command("list")
@where
def list_plugins(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List the plugins and tool hosts of a deployment, in use or not, and why."""
    _show(run(lambda client: client.list_plugins(), url, token, data))


@plugins.command()
@where
def reload(*, url: str | None, token: str | None, data: Path | None) -> None:
    """Load the code of all plugins anew; running calls finish on the old one."""
    _show(run(lambda client: client.reload_plugins(), url, token, data))


def _show(reports: Sequence[PluginReport]) -> None:
    rows = [
        (one.name, one.version, one.state, one.error or one.off or ", ".join(one.tools))
        for one in reports
    ]
    table(("NAME", "VERSION", "STATE", "TOOLS, OR WHY NOT"), rows)
    for one in reports:
        for warning in one.warnings:
            click.echo(f"warning: {one.name}: {warning}")
