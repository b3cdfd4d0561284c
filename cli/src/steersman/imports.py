"""`steersman import`: chats of other systems, from a JSON-lines file."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO, Final

import click
import msgspec

from steersman.client import ApiProblem, Client, ClientError
from steersman.client.access import find_access
from steersman.datadir import VARIABLE
from steersman.exports import ExportedChat, LineError, read_export
from steersman_contracts.rest import ImportChatBody, ImportMessageBody, StageImportBody

PIECE_BYTES: Final = 2**20
"""Of one request: the server takes twice as much, unless it is told otherwise."""

_EPILOG = """\b
The file has a line for each chat and, after it, one for each of its messages:
  {"type": "chat", "id": "42", "title": "Tides"}
  {"type": "message", "role": "user", "content": [{"type": "text", "data": {"text": "Hi"}}]}

\b
A chat is imported as a whole or not at all, and importing it again changes nothing.
docs/import.md describes all of it.
"""


@click.command(name="import", epilog=_EPILOG, context_settings={"max_content_width": 100})
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Check the file; send nothing.")
@click.option("--model", "-m", metavar="NAME", help="Which model answers in the imported chats.")
@click.option("--url", metavar="URL", help="Where Steersman is.")
@click.option("--token", metavar="TOKEN", help="An API token; better in STEERSMAN_TOKEN.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=VARIABLE,
    show_envvar=True,
    help="The data directory of the Steersman on this machine.",
)
def import_(
    *,
    file: BinaryIO,
    dry_run: bool,
    model: str | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Import the chats of FILE (a dash: the standard input) as yours."""
    try:
        access = None if dry_run else find_access(url, token, data)
        client = None if access is None else Client(access.url, access.token, patience_s=30)
        failed = asyncio.run(_import_all(file, client, model))
    except ClientError as error:
        click.echo(f"steersman: {error}", err=True)
        sys.exit(4)
    sys.exit(1 if failed else 0)


async def _import_all(file: BinaryIO, client: Client | None, model: str | None) -> int:
    """Import chat by chat.

    Returns:
        How many were not imported.
    """
    done = again = failed = 0
    async with AsyncExitStack() as stack:
        if client is not None:
            await stack.enter_async_context(client)
        try:
            for chat in read_export(file, model=model):
                created = await _import(chat, client)
                done += created is True
                again += created is False
                failed += created is None
        except LineError as error:
            click.echo(str(error), err=True)
            click.echo("Nothing after this line was looked at.", err=True)
            failed += 1
    verb = "would be imported" if client is None else "imported"
    click.echo(f"{done} {verb}, {again} imported before, {failed} refused.")
    return failed


async def _import(chat: ExportedChat, client: Client | None) -> bool | None:
    """Whether the chat is new; None when it was refused."""
    for error in chat.errors:
        click.echo(f"{error} (chat {chat.id!r})", err=True)
    if chat.body is None:
        if not chat.errors:
            click.echo(f"chat {chat.id!r} has no messages", err=True)
        return None
    if chat.replaced:
        click.echo(f"chat {chat.id!r}: {chat.replaced} lines are no UTF-8; U+FFFD shows where")
    if client is None:
        return True
    try:
        early, last = pieces(chat.body)
        for body in early:
            await client.stage_import(body)
        reply = await client.import_chat(last)
    except ApiProblem as problem:
        where = _line_of(chat, problem.field)
        click.echo(f"{where}{problem} (chat {chat.id!r})", err=True)
        return None
    click.echo(f"{chat.id} -> {reply.chat.id}{'' if reply.created else ' (imported before)'}")
    return reply.created


def pieces(
    body: ImportChatBody, *, most: int = PIECE_BYTES
) -> tuple[list[StageImportBody], ImportChatBody]:
    """A chat in requests of about `most` bytes: what is brought before, and the import itself.

    A message is never divided, so one that is larger than the server takes is refused by it.
    """
    early: list[StageImportBody] = []
    held: list[ImportMessageBody] = []
    size = first = 0
    for message in body.messages:
        length = len(msgspec.json.encode(message))
        if held and size + length > most and body.client_key is not None:
            early.append(StageImportBody(body.client_key, first, tuple(held)))
            first += len(held)
            held, size = [], 0
        held.append(message)
        size += length
    last = body if not early else msgspec.structs.replace(body, messages=tuple(held), staged=first)
    return early, last


def _line_of(chat: ExportedChat, field: str | None) -> str:
    match = re.match(r"messages\[(\d+)\]", field or "")
    return f"line {chat.lines[int(match[1])]}: " if match else ""
