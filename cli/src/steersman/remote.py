"""What the commands over the public API share: where it is, and how their answers look."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from steersman.datadir import VARIABLE

if TYPE_CHECKING:
    from steersman.client import Client

T = TypeVar("T")

_WHERE: Final = (
    click.option("--url", metavar="URL", help="Where Steersman is (or STEERSMAN_URL)."),
    click.option("--token", metavar="TOKEN", help="An API token; better in STEERSMAN_TOKEN."),
    click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        envvar=VARIABLE,
        show_envvar=True,
        help="The data directory of the Steersman on this machine.",
    ),
)


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where Steersman is."""
    for option in reversed(_WHERE):
        command = option(command)
    return command


def checked(body: T) -> T:
    """The body, if it keeps to its bounds: the same that the server checks."""
    try:
        return msgspec.convert(msgspec.to_builtins(body), type(body))
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error


def run(
    work: Callable[[Client], Coroutine[Any, Any, T]],
    url: str | None,
    token: str | None,
    data: Path | None,
) -> T:
    """Do something with a client; errors end the command with their advice."""
    from steersman.chat.advice import failure
    from steersman.client import Client, ClientError
    from steersman.client.access import find_access

    async def with_client() -> T:
        access = find_access(url, token, data)
        async with Client(access.url, access.token) as client:
            return await work(client)

    try:
        return asyncio.run(with_client())
    except ClientError as error:
        told = failure(error, url)
        click.echo(f"steersman: {told.text}", err=True)
        sys.exit(told.code)


def money(micros: int) -> str:
    """An amount in whole units of the currency, with as many digits as it needs, at least two."""
    whole, rest = divmod(micros, 1_000_000)
    return f"{whole}.{f'{rest:06}'[:2]}{f'{rest:06}'[2:].rstrip('0')}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns; the last one is as long as it wants, so that nothing is cut in a pipe."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
