"""`steersman workspace`: workspaces and their files, over the public API."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from steersman.chat.words import harmless
from steersman.remote import checked, run, table, where
from steersman_contracts.ids import ChatId
from steersman_contracts.rest_workspaces import CreateWorkspaceBody
from steersman_contracts.rpc.workspaces import FileEntry
from steersman_contracts.workspace_diff import WorkspaceDiff
from steersman_contracts.workspaces import Parameter, Template, Value, Workspace

if TYPE_CHECKING:
    from steersman.client import Client

_LOOK_S: Final = 0.5


@click.group(
    epilog="""\b
Examples:
  steersman workspace templates
  steersman workspace create default --name sea --set repository=https://example.org/sea.git
  steersman workspace diff sea
  steersman workspace files sea src
"""
)
def workspace() -> None:
    """Make workspaces, start and stop them, look at their files and at what has changed."""


@workspace.command()
@click.argument("query", required=False, default="")
@where
def templates(*, query: str, url: str | None, token: str | None, data: Path | None) -> None:
    """List the templates that match the words QUERY."""
    page = run(lambda client: client.list_templates(query), url, token, data)
    table(
        ("ID", "NAME", "USES", "DESCRIPTION"),
        [(one.id, one.name, str(one.uses), harmless(one.description)) for one in page.templates],
    )
    if page.pages > 1:
        click.echo(f"{page.total} in all; more words show fewer")


@workspace.command("list")
@where
def list_workspaces(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List all workspaces of yours."""
    rows = [
        (
            harmless(one.name),
            one.state,
            one.template,
            one.last_used_at.isoformat(" ", "minutes"),
            one.id,
        )
        for one in run(lambda client: client.list_workspaces(), url, token, data)
    ]
    table(("NAME", "STATE", "TEMPLATE", "LAST USED", "ID"), rows)


@workspace.command()
@click.argument("template")
@click.option("--name", default="", help="What to call it.")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="A parameter.")
@click.option("--chat", help="The chat that it is for.")
@where
def create(
    *,
    template: str,
    name: str,
    values: Sequence[str],
    chat: str | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Make a workspace of the template TEMPLATE, and wait until it can be used."""

    async def work(client: Client) -> Workspace:
        parameters = read_values(await client.get_template(template), values)
        body = checked(CreateWorkspaceBody(template, name, parameters, chat))
        made = await client.create_workspace(body)
        while made.state == "creating":
            await asyncio.sleep(_LOOK_S)
            made = await client.get_workspace(made.id)
        return made

    made = run(work, url, token, data)
    if made.state == "failed":
        raise click.ClickException(harmless(made.reason))
    click.echo(f"{harmless(made.name)} is {made.state} ({made.id})")


@workspace.command()
@click.argument("name")
@where
def start(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Let tools act in the workspace NAME (or id) again."""

    async def work(client: Client) -> Workspace:
        return await client.start_workspace((await _find(client, name)).id)

    _tell(run(work, url, token, data))


@workspace.command()
@click.argument("name")
@where
def stop(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """End every process in the workspace NAME (or id); its files stay."""

    async def work(client: Client) -> Workspace:
        return await client.stop_workspace((await _find(client, name)).id)

    _tell(run(work, url, token, data))


@workspace.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@where
def delete(*, name: str, yes: bool, url: str | None, token: str | None, data: Path | None) -> None:
    """Remove the workspace NAME (or id), with all its files."""
    if not yes:
        click.confirm(f"Remove {name!r} and all its files?", abort=True)

    async def work(client: Client) -> None:
        await client.delete_workspace((await _find(client, name)).id)

    run(work, url, token, data)
    click.echo(f"{name} is deleted")


@workspace.command()
@click.argument("name")
@click.option("--stat", is_flag=True, help="Only which files, and how many lines.")
@where
def diff(*, name: str, stat: bool, url: str | None, token: str | None, data: Path | None) -> None:
    """Show what is not committed in the repositories of the workspace NAME (or id)."""

    async def work(client: Client) -> WorkspaceDiff:
        return await client.workspace_diff((await _find(client, name)).id)

    for line in diff_lines(run(work, url, token, data), stat=stat):
        click.echo(line)


@workspace.command()
@click.argument("name")
@click.argument("path", required=False, default=".")
@where
def files(*, name: str, path: str, url: str | None, token: str | None, data: Path | None) -> None:
    """List what is in the directory PATH of the workspace NAME (or id)."""

    async def work(client: Client) -> tuple[FileEntry, ...]:
        found = await client.browse_workspace((await _find(client, name)).id, path)
        return found.entries

    for entry in run(work, url, token, data):
        sign = {"directory": "/", "link": "@", "file": ""}.get(entry.kind, "?")
        size = "" if entry.size is None else str(entry.size)
        click.echo(f"{size:>12}  {harmless(entry.name)}{sign}")


@workspace.command()
@click.argument("name")
@click.argument("path")
@click.argument("to", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@where
def get(
    *, name: str, path: str, to: Path, url: str | None, token: str | None, data: Path | None
) -> None:
    """Copy the file PATH of the workspace NAME (or id) to the file TO; `-` prints it."""

    async def work(client: Client) -> bytes:
        return await client.download_workspace_file((await _find(client, name)).id, path)

    content = run(work, url, token, data)
    if str(to) == "-":
        sys.stdout.buffer.write(content)
    else:
        to.write_bytes(content)


@workspace.command()
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("path")
@where
def put(
    *, name: str, source: Path, path: str, url: str | None, token: str | None, data: Path | None
) -> None:
    """Copy the file SOURCE to PATH in the workspace NAME (or id)."""
    content = source.read_bytes()

    async def work(client: Client) -> FileEntry:
        workspace_id = (await _find(client, name)).id
        return await client.upload_workspace_file(workspace_id, path, content)

    click.echo(f"{run(work, url, token, data).size} bytes")


@workspace.command()
@click.argument("name")
@click.argument("chat")
@where
def use(*, name: str, chat: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Let the chat CHAT use the workspace NAME (or id); `-` as NAME lets go of the one it has."""

    async def work(client: Client) -> None:
        workspace_id = None if name == "-" else (await _find(client, name)).id
        await client.use_workspace(ChatId(chat), workspace_id)

    run(work, url, token, data)
    click.echo("done")


def read_values(template: Template, given: Sequence[str]) -> dict[str, Value]:
    """Turn `NAME=VALUE` into what the template wants.

    Raises:
        click.ClickException: It is not of that form, or no value of that type.
    """
    known = {parameter.name: parameter for parameter in template.parameters}
    values: dict[str, Value] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not sign:
            raise click.ClickException(f"{one!r} is not NAME=VALUE")
        if name not in known:
            names = ", ".join(known) or "none"
            raise click.ClickException(f"there is no parameter {name!r}; there are: {names}")
        values[name] = _value(known[name], text)
    return values


def _value(parameter: Parameter, text: str) -> Value:
    kinds: dict[str, type[Value]] = {"string": str, "integer": int, "boolean": bool}
    try:
        return msgspec.convert(text, kinds[parameter.type], strict=False)
    except msgspec.ValidationError:
        raise click.ClickException(
            f"{text!r} is no {parameter.type}, which {parameter.name!r} wants"
        ) from None


def diff_lines(found: WorkspaceDiff, *, stat: bool) -> list[str]:
    """What is shown of a diff. Nothing in it can steer a terminal."""
    lines: list[str] = []
    for one in found.repositories:
        on = f" on {harmless(one.branch)}" if one.branch else ""
        lines.append(f"{harmless(one.path)}{on}: {one.error or _counted(one.files)}")
        for change in one.changes:
            added = "-" if change.additions is None else change.additions
            removed = "-" if change.deletions is None else change.deletions
            lines.append(f"  {change.status} {harmless(change.path)} (+{added} -{removed})")
        if not stat:
            lines += [harmless(line) for line in one.diff.split("\n")] if one.diff else []
        if one.truncated:
            lines.append("  [there is more than is shown]")
    if found.truncated:
        lines.append("[there are more repositories]")
    return lines or ["there is no repository"]


def _counted(files: int) -> str:
    return "nothing has changed" if not files else f"{files} file{'' if files == 1 else 's'}"


def _tell(one: Workspace) -> None:
    click.echo(f"{harmless(one.name)} is {one.state}")


async def _find(client: Client, name: str) -> Workspace:
    found = [one for one in await client.list_workspaces() if name in (one.id, one.name)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(one.id for one in found)
        raise click.ClickException(f"{name!r} is the name of several; give an id: {ids}")
    raise click.ClickException(f"there is no workspace {name!r}")
