"""`steersman user`: the people of a deployment, over the public API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from steersman.remote import checked, run, table, where
from steersman_contracts.rest import CreateUserBody, PatchUserBody
from steersman_contracts.rpc.users import Account, SignIn

if TYPE_CHECKING:
    from steersman.client import Client


@click.group(
    epilog="""\b
Examples:
  steersman user add ann
  steersman user add bob --admin
  steersman user disable ann
"""
)
def user() -> None:
    """Add people, give them sign-in links, disable them."""


@user.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="May change models and people, and sees all costs.")
@where
def add(*, name: str, admin: bool, url: str | None, token: str | None, data: Path | None) -> None:
    """Add the person NAME, and print a link that signs in once, within a day."""
    body = checked(CreateUserBody(name=name, role="admin" if admin else "member"))

    async def work(client: Client) -> str:
        return _link(client, await client.create_user(body))

    click.echo(run(work, url, token, data))


@user.command()
@click.argument("name")
@where
def link(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Print a new link for the person NAME; earlier ones stop working."""

    async def work(client: Client) -> str:
        return _link(client, await client.new_sign_in((await _find(client, name)).id))

    click.echo(run(work, url, token, data))


@user.command("list")
@where
def list_users(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List everybody."""
    rows = [
        (one.name, one.role, one.created_at.date().isoformat(), "disabled" if one.disabled else "")
        for one in run(lambda client: client.list_users(), url, token, data)
    ]
    table(("NAME", "ROLE", "SINCE", ""), rows)


@user.command()
@click.argument("name")
@where
def disable(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Keep the person NAME out; the chats stay."""
    _change(name, PatchUserBody(disabled=True), url, token, data)
    click.echo(f"{name} is disabled")


@user.command()
@click.argument("name")
@where
def enable(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Let the person NAME in again."""
    _change(name, PatchUserBody(disabled=False), url, token, data)
    click.echo(f"{name} is enabled")


def _change(
    name: str, body: PatchUserBody, url: str | None, token: str | None, data: Path | None
) -> None:
    async def work(client: Client) -> Account:
        return await client.patch_user((await _find(client, name)).id, body)

    run(work, url, token, data)


async def _find(client: Client, name: str) -> Account:
    for one in await client.list_users():
        if one.name == name:
            return one
    raise click.ClickException(f"there is nobody called {name!r}")


def _link(client: Client, made: SignIn) -> str:
    return f"{client.url}/sign-in/{made.code}"
