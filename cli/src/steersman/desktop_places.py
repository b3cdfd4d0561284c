"""`steersman desktop files`, `get`, `put` and `server`: what goes to a desktop, and where it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from steersman.chat.words import harmless
from steersman.remote import run, where
from steersman_contracts.ids import ChatId, is_chat_id

_TO: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


def _chat_id(_: click.Context, __: click.Parameter, value: str) -> ChatId:
    if not is_chat_id(value):  # it becomes part of an address
        raise click.BadParameter(f"not the id of a chat: {value!r}")
    return ChatId(value)


chat_argument: Final = click.argument("chat", callback=_chat_id)
"""How every command about a desktop names its chat."""


@click.command()
@chat_argument
@where
def files(*, chat: ChatId, url: str | None, token: str | None, data: Path | None) -> None:
    """List the folder Downloads of the desktop of the chat CHAT."""
    for entry in run(lambda client: client.desktop_files(chat), url, token, data).files:
        sign = {"directory": "/", "link": "@", "file": ""}.get(entry.kind, "?")
        size = "" if entry.size is None else str(entry.size)
        click.echo(f"{size:>12}  {harmless(entry.name)}{sign}")


@click.command()
@chat_argument
@click.argument("path")
@click.argument("to", type=_TO)
@where
def get(
    *, chat: ChatId, path: str, to: Path, url: str | None, token: str | None, data: Path | None
) -> None:
    """Copy the file PATH of that folder to the file TO; `-` prints it."""
    content = run(lambda client: client.read_desktop_file(chat, path), url, token, data)
    if str(to) == "-":
        sys.stdout.buffer.write(content)
    else:
        to.write_bytes(content)


@click.command()
@chat_argument
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("path", required=False)
@where
def put(
    *,
    chat: ChatId,
    source: Path,
    path: str | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Copy the file SOURCE into that folder, as PATH; starts the desktop if there is none."""
    content, name = source.read_bytes(), path or source.name
    made = run(lambda client: client.put_desktop_file(chat, name, content), url, token, data)
    click.echo(f"{made.size} bytes")


@click.command()
@chat_argument
@click.option("--use", "address", metavar="HOST:PORT", help="Have the desktop on this VNC server.")
@click.option("--password-stdin", is_flag=True, help="Read its password (asks at a terminal).")
@click.option("--none", "nothing", is_flag=True, help="Have a desktop of the deployment again.")
@where
def server(
    *,
    chat: ChatId,
    address: str | None,
    password_stdin: bool,
    nothing: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Show or set the VNC server that the desktop of the chat CHAT is on."""
    if (nothing and address) or (password_stdin and not address):
        raise click.UsageError("either --use with or without --password-stdin, or --none")
    if nothing:
        run(lambda client: client.delete_desktop_server(chat), url, token, data)
        click.echo("the next desktop is one of the deployment's own")
        return
    if address:
        password = _password() if password_stdin else None
        wanted = address
        run(lambda client: client.put_desktop_server(chat, wanted, password), url, token, data)
    found = run(lambda client: client.desktop_server(chat), url, token, data)
    locked = ", with a password" if found.has_password else ""
    click.echo(f"{harmless(found.address)}{locked}" if found.address else "none")


def _password() -> str:
    # Never an argument: lists of processes are for everybody.
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True))
    return sys.stdin.readline().rstrip("\n")


COMMANDS: Final = (files, get, put, server)
