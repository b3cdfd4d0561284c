"""`steersman provider` and `steersman model`: where answers come from, over the public API."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args

import click
import msgspec

from steersman.datadir import VARIABLE
from steersman_contracts.ids import SLUG_PATTERN
from steersman_contracts.rest import PutModelBody, PutProviderBody
from steersman_contracts.rpc.models import Model, Provider, ProviderType

if TYPE_CHECKING:
    from steersman.client import Client

T = TypeVar("T")

MAX_MODELS: Final = 100
"""How many models of a listing are registered; more than that are named by hand."""
_HOSTED: Final[dict[str, ProviderType]] = {
    "anthropic": "anthropic",
    "openai": "openai-responses",
    "google": "google",
    "gemini": "google",
}
"""Names that say which wire format is meant."""
_TYPES: Final = [kind for kind in get_args(ProviderType) if kind != "demo"]

_ADD_EXAMPLES: Final = """\b
Examples:
  steersman provider add ollama --base-url http://127.0.0.1:11434/v1 --default
  steersman provider add groq --base-url https://api.groq.com/openai/v1 --key-env GROQ_API_KEY
  steersman provider add anthropic --key-env ANTHROPIC_API_KEY --model claude-sonnet-5-5
  pass show openai | steersman provider add openai --key-stdin --model gpt-6.2-sol

\b
The key is read from a variable or from the input, never from the command line, where other
users of this machine could see it. It is stored encrypted and is never shown again.
"""

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
    """The options that say which Steersman is meant."""
    for option in reversed(_WHERE):
        command = option(command)
    return command


@click.group(epilog=_ADD_EXAMPLES)
def provider() -> None:
    """Add, list and remove the places that serve models."""


@provider.command(epilog=_ADD_EXAMPLES, context_settings={"max_content_width": 100})
@click.argument("name")
@click.option("--base-url", metavar="URL", help="Where the server is, as its own SDK takes it.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(_TYPES),
    help="What it speaks. openai-chat is every compatible server, and the default.",
)
@click.option("--key-env", metavar="VARIABLE", help="The environment variable with the key.")
@click.option("--key-stdin", is_flag=True, help="Read the key from the input (asks at a terminal).")
@click.option(
    "--model",
    "models",
    metavar="ID",
    multiple=True,
    help="A model of it; may be repeated. Without one, the server is asked what it has.",
)
@click.option("--default", "default", is_flag=True, help="Let its first model be the default.")
@where
def add(
    *,
    name: str,
    base_url: str | None,
    kind: str | None,
    key_env: str | None,
    key_stdin: bool,
    models: tuple[str, ...],
    default: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Add the provider NAME with its models, or replace it.

    Its models are called NAME/ID from then on. Adding it again without a key keeps the stored one.
    """
    if not re.fullmatch(SLUG_PATTERN, name):
        raise click.UsageError(f"{name!r} is no name for a provider: a-z, 0-9, `_` and `-`")
    wire = cast("ProviderType", kind or _HOSTED.get(name) or "openai-chat")
    if wire == "openai-chat" and base_url is None:
        raise click.UsageError("a compatible server needs its --base-url")
    if wire != "openai-chat" and not models:
        raise click.UsageError(f"name the models of a provider of the type {wire} with --model")
    key = _key(key_env, from_stdin=key_stdin)
    body = _checked(PutProviderBody(type=wire, base_url=base_url, api_key=key))

    async def work(client: Client) -> None:
        from steersman.client.listing import list_served

        ids = list(models) or await list_served(base_url or "", key)
        await client.put_provider(name, body)
        for place, model_id in enumerate(ids[:MAX_MODELS]):
            made = await client.put_model(
                _checked(
                    PutModelBody(
                        provider_id=name, model_id=model_id, make_default=default and place == 0
                    )
                )
            )
            click.echo(f"{made.name}{'  (default)' if default and place == 0 else ''}")
        if len(ids) > MAX_MODELS:
            click.echo(f"{len(ids) - MAX_MODELS} more were left out; name them with --model")
        click.echo(f'try it:  steersman chat --model {name}/{ids[0]} "Hello"')

    run(work, url, token, data)


@provider.command("list")
@where
def list_providers(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List the providers."""

    async def work(client: Client) -> tuple[tuple[Provider, ...], tuple[Model, ...]]:
        return await client.list_providers(), await client.list_models()

    providers, models = run(work, url, token, data)
    rows = [
        (
            one.id,
            one.type,
            "yes" if one.has_key else "no",
            str(sum(model.provider_id == one.id for model in models)),
            "" if one.enabled else "disabled",
            one.base_url or "",
        )
        for one in providers
    ]
    table(("NAME", "TYPE", "KEY", "MODELS", "", "BASE URL"), rows)


@provider.command()
@click.argument("name")
@where
def remove(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Remove the provider NAME and its models. Chats keep their history."""
    run(lambda client: client.delete_provider(name), url, token, data)
    click.echo(f"{name} is removed")


@click.group()
def model() -> None:
    """List the models, and choose the default.

    \b
    Examples:
      steersman model list
      steersman model default demo/tour
    """  # noqa: D301  # click's own mark, not an escape


@model.command("list")
@where
def list_models(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List the models that can answer; the default is marked."""
    rows = [
        (
            "*" if one.is_default else "",
            one.name,
            one.display_name,
            "yes" if one.tools else "no",
            "" if one.context_limit is None else str(one.context_limit),
        )
        for one in run(lambda client: client.list_models(), url, token, data)
    ]
    table(("", "NAME", "TITLE", "TOOLS", "CONTEXT"), rows)


@model.command("default")
@click.argument("name")
@where
def default_model(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Let the model NAME answer where none is asked for."""
    from steersman.chat.wishes import find_model

    async def work(client: Client) -> str:
        wanted = await find_model(client, name)
        found = next(one for one in await client.list_models() if one.name == wanted)
        body = PutModelBody(
            provider_id=found.provider_id,
            model_id=found.model_id,
            display_name=found.display_name,
            context_limit=found.context_limit,
            max_output_tokens=found.max_output_tokens,
            tools=found.tools,
            make_default=True,
        )
        await client.put_model(body)
        return wanted

    click.echo(f"{run(work, url, token, data)} is the default")


def _key(variable: str | None, *, from_stdin: bool) -> str | None:
    if variable is not None and from_stdin:
        raise click.UsageError("either --key-env or --key-stdin")
    if variable is not None:
        key = os.environ.get(variable, "").strip()
        if not key:
            raise click.UsageError(f"the variable {variable} is empty or not set")
        return key
    if not from_stdin:
        return None
    asked = click.prompt("Key", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    key = str(asked).strip()
    if not key:
        raise click.UsageError("there was no key in the input")
    return key


def _checked(body: T) -> T:
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


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns; the last one is as long as it wants, so that nothing is cut in a pipe."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
