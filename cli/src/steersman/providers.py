"""`steersman provider`: where models are served, over the public API."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import click
import msgspec

from steersman.remote import checked, run, table, where
from steersman_contracts.ids import SLUG_PATTERN
from steersman_contracts.rest import PatchProviderBody, PutModelBody, PutProviderBody
from steersman_contracts.rpc.models import Model, Provider, ProviderType
from steersman_contracts.rpc.providers import ServedModels

if TYPE_CHECKING:
    from steersman.client import Client

MAX_MODELS: Final = 100
"""How many models of a listing are registered; more than that are named by hand."""
_HOSTED: Final[dict[str, ProviderType]] = {
    "anthropic": "anthropic",
    "openai": "openai-responses",
    "google": "google",
    "gemini": "google",
    "bedrock": "anthropic-bedrock",
    "vertex": "google-vertex",
}
"""Names that say which wire format is meant."""
_TYPES: Final = [kind for kind in get_args(ProviderType) if kind != "demo"]

_ADD_EXAMPLES: Final = """\b
Examples:
  steersman provider add ollama --base-url http://127.0.0.1:11434/v1 --default
  steersman provider add groq --base-url https://api.groq.com/openai/v1 --key-env GROQ_API_KEY
  steersman provider add anthropic --key-env ANTHROPIC_API_KEY --model claude-sonnet-5-5
  pass show openai | steersman provider add openai --key-stdin --model gpt-6.2-sol
  steersman provider add bedrock --region us-east-1 --key-env AWS_BEARER_TOKEN_BEDROCK \
      --model global.anthropic.claude-sonnet-5-5
  steersman provider add vertex --region global --key-stdin <service-account.json \
      --model gemini-3.8-flash

\b
The key is read from a variable or from the input, never from the command line, where other
users of this machine could see it. It is stored encrypted and is never shown again. The same goes
for extra headers.
"""
_SET_EXAMPLES: Final = """\b
Examples:
  steersman provider set lab --base-url https://lab.example/v1 --key-env LAB_KEY
  steersman provider set lab --header-env X-Team=TEAM_TOKEN --no-header X-Old
  steersman provider set lab --disable
"""


@click.group(epilog=_ADD_EXAMPLES)
def provider() -> None:
    """Add, list, change and remove the places that serve models."""


@provider.command(epilog=_ADD_EXAMPLES, context_settings={"max_content_width": 100})
@click.argument("name")
@click.option("--base-url", metavar="URL", help="Where the server is, as its own SDK takes it.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(_TYPES),
    help="What it speaks. openai-chat is every compatible server, and the default.",
)
@click.option("--region", help="Where a cloud serves the models: Bedrock and Vertex AI.")
@click.option("--project", help="The project on Vertex AI, if the key does not say it.")
@click.option("--key-env", metavar="VARIABLE", help="The environment variable with the key.")
@click.option("--key-stdin", is_flag=True, help="Read the key from the input (asks at a terminal).")
@click.option(
    "--header-env",
    "headers",
    metavar="NAME=VARIABLE",
    multiple=True,
    help="An extra header and the variable with its value; may be repeated.",
)
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
    region: str | None,
    project: str | None,
    key_env: str | None,
    key_stdin: bool,
    headers: tuple[str, ...],
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
    body = checked(
        PutProviderBody(
            type=wire,
            base_url=base_url,
            api_key=key,
            headers=header_values(headers) or None,
            region=region,
            project=project,
        )
    )

    async def work(client: Client) -> None:
        from steersman.client.listing import list_served

        ids = list(models) or await list_served(base_url or "", key)
        await client.put_provider(name, body)
        for place, model_id in enumerate(ids[:MAX_MODELS]):
            made = await client.put_model(
                checked(
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
            str(len(one.header_names)),
            "" if one.enabled else "disabled",
            one.base_url or "",
        )
        for one in providers
    ]
    table(("NAME", "TYPE", "KEY", "MODELS", "HEADERS", "", "BASE URL"), rows)


@provider.command("set", epilog=_SET_EXAMPLES)
@click.argument("name")
@click.option("--base-url", metavar="URL", help="Where the server is.")
@click.option("--type", "kind", type=click.Choice(_TYPES), help="What it speaks.")
@click.option("--title", metavar="TEXT", help="How it is called for people.")
@click.option("--region", help="Where a cloud serves the models: Bedrock and Vertex AI.")
@click.option("--project", help="The project on Vertex AI, if the key does not say it.")
@click.option("--key-env", metavar="VARIABLE", help="The environment variable with the key.")
@click.option("--key-stdin", is_flag=True, help="Read the key from the input (asks at a terminal).")
@click.option("--no-key", is_flag=True, help="Forget the stored key.")
@click.option(
    "--header-env",
    "headers",
    metavar="NAME=VARIABLE",
    multiple=True,
    help="An extra header and the variable with its value; may be repeated.",
)
@click.option("--no-header", metavar="NAME", multiple=True, help="Forget an extra header.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether it may be used.")
@where
def set_provider(
    *,
    name: str,
    base_url: str | None,
    kind: str | None,
    title: str | None,
    region: str | None,
    project: str | None,
    key_env: str | None,
    key_stdin: bool,
    no_key: bool,
    headers: tuple[str, ...],
    no_header: tuple[str, ...],
    enabled: bool | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Change what is named of the provider NAME, and leave the rest."""
    key = _key(key_env, from_stdin=key_stdin)
    if no_key and key is not None:
        raise click.UsageError("either a key or --no-key")
    changes: dict[str, Any] = {
        field: value
        for field, value in (
            ("base_url", base_url),
            ("type", kind),
            ("display_name", title),
            ("api_key", key),
            ("enabled", enabled),
            ("region", region),
            ("project", project),
        )
        if value is not None
    }
    if no_key:
        changes["api_key"] = None
    if headers or no_header:
        changes["headers"] = dict.fromkeys(no_header) | header_values(headers)
    if not changes:
        raise click.UsageError("there is nothing to change: see --help")
    body = checked(PatchProviderBody(**changes))
    _show(run(lambda client: client.patch_provider(name, body), url, token, data))


@provider.command()
@click.argument("name")
@where
def show(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Show the provider NAME."""
    found = run(lambda client: client.list_providers(), url, token, data)
    wanted = next((one for one in found if one.id == name), None)
    if wanted is None:
        raise click.ClickException(f"there is no provider {name!r}")
    _show(wanted)


def _show(one: Provider) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(one)).decode())


@provider.command()
@click.argument("name")
@where
def models(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """List what the provider NAME says it serves; add one with `steersman model add`."""

    async def work(client: Client) -> ServedModels:
        return await client.list_served(name)

    served = run(work, url, token, data)
    if served.availability != "available":
        raise click.ClickException(served.reason)
    rows = [
        (
            f"{name}/{one.model_id}",
            "" if one.context_limit is None else str(one.context_limit),
            "" if one.max_output_tokens is None else str(one.max_output_tokens),
            one.display_name,
        )
        for one in served.models
    ]
    table(("NAME", "CONTEXT", "OUTPUT", "TITLE"), rows)


@provider.command()
@click.argument("name")
@where
def remove(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Remove the provider NAME and its models. Chats keep their history."""
    run(lambda client: client.delete_provider(name), url, token, data)
    click.echo(f"{name} is removed")


def header_values(pairs: tuple[str, ...]) -> dict[str, str]:
    """The headers of `NAME=VARIABLE` pairs, with the values of the variables."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, variable = pair.partition("=")
        value = os.environ.get(variable, "").strip()
        if not separator or not name:
            raise click.UsageError(f"{pair!r} is not of the form NAME=VARIABLE")
        if not value:
            raise click.UsageError(f"the variable {variable} is empty or not set")
        found[name] = value
    return found


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
    if str(asked).lstrip().startswith("{"):  # the keys of clouds are files of JSON
        asked = f"{asked}{sys.stdin.read()}"
    key = str(asked).strip()
    if not key:
        raise click.UsageError("there was no key in the input")
    return key
