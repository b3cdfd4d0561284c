"""`steersman model`: what can answer, how it is called and what it costs, over the public API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
import msgspec

from steersman.remote import checked, money, run, table, where
from steersman_contracts.parts import JsonObject
from steersman_contracts.rest import PatchModelBody, PutModelBody
from steersman_contracts.rpc.models import Model

if TYPE_CHECKING:
    from steersman.client import Client

_FIELDS: Final = ("display_name", "context_limit", "max_output_tokens", "enabled", "tools")
"""What belongs to the model itself; everything else is one of its settings."""

_EXAMPLES: Final = """\b
Examples:
  steersman model list
  steersman model default demo/tour
  steersman model add lab/llama-4 --set context_limit=131072 --set temperature=0.2
  steersman model set lab/llama-4 --set prices.input=250000 --set prices.output=1000000
  steersman model set anthropic/claude-sonnet-5-5 --options '{"web_search_enabled": true}'
  steersman model set lab/llama-4 --set temperature=null --set fallbacks='["demo/echo"]'

\b
Fields: display_name, context_limit, max_output_tokens, enabled, tools. Settings: temperature,
top_p, top_k, presence_penalty, frequency_penalty, reasoning_effort, max_reasoning_effort,
compaction_threshold, compaction_model, fallbacks, fallback_after, prices.input, prices.output,
prices.cache_read, prices.cache_write (micro-units for a million tokens: 3000000 is 3 dollars), and
options.NAME, the options of the provider's type. A value is JSON or else text; null takes it back.
"""

_SET = click.option(
    "--set",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="A field or a setting; may be repeated.",
)
_OPTIONS = click.option("--options", metavar="JSON", help="Options of the provider, as an object.")


@click.group(epilog=_EXAMPLES, context_settings={"max_content_width": 100})
def model() -> None:
    """List, add, change and remove models, choose the default, look up prices."""


@model.command("list")
@where
def list_models(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List the models; the default is marked."""
    rows = [
        (
            "*" if one.is_default else "",
            one.name,
            one.display_name,
            "yes" if one.tools else "no",
            "" if one.context_limit is None else str(one.context_limit),
            _price(one),
            "" if one.availability == "available" else f"{one.availability}: {one.reason}",
        )
        for one in run(lambda client: client.list_models(), url, token, data)
    ]
    table(("", "NAME", "TITLE", "TOOLS", "CONTEXT", "PRICE", ""), rows)


def _price(one: Model) -> str:
    """Dollars for a million tokens, in and out."""
    prices = one.settings.prices
    if prices.input is None or prices.output is None:
        return ""
    if not prices.input and not prices.output:
        return "free"
    return f"{money(prices.input)} / {money(prices.output)}"


@model.command()
@click.argument("name")
@where
def show(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Show everything about the model NAME."""
    _show(run(lambda client: _find(client, name), url, token, data))


@model.command(epilog=_EXAMPLES)
@click.argument("name")
@_SET
@_OPTIONS
@click.option("--default", "default", is_flag=True, help="Let it be the default.")
@where
def add(
    *,
    name: str,
    pairs: tuple[str, ...],
    options: str | None,
    default: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Add the model NAME, which is PROVIDER/ID, or replace it with all its settings.

    Prices that are not given are looked up.
    """
    provider, _, model_id = name.partition("/")
    fields, settings = changes(pairs, options)
    body = checked(
        PutModelBody(
            provider_id=provider,
            model_id=model_id,
            settings=settings,
            make_default=default,
            **fields,
        )
    )
    _show(run(lambda client: client.put_model(body), url, token, data))


@model.command("set", epilog=_EXAMPLES)
@click.argument("name")
@_SET
@_OPTIONS
@where
def set_model(
    *,
    name: str,
    pairs: tuple[str, ...],
    options: str | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Change what is named of the model NAME, and leave the rest."""
    fields, settings = changes(pairs, options)
    if not fields and not settings:
        raise click.UsageError("there is nothing to change: see --help")
    body = checked(PatchModelBody(settings=settings, **fields))

    async def work(client: Client) -> Model:
        return await client.patch_model((await _find(client, name)).name, body)

    _show(run(work, url, token, data))


@model.command("default")
@click.argument("name")
@where
def default_model(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Let the model NAME answer where none is asked for."""

    async def work(client: Client) -> Model:
        wanted = (await _find(client, name)).name
        return await client.patch_model(wanted, PatchModelBody(make_default=True))

    click.echo(f"{run(work, url, token, data).name} is the default")


@model.command()
@click.argument("name")
@where
def remove(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Remove the model NAME. Its chats go on with the default at their next turn."""
    run(lambda client: client.delete_model(name), url, token, data)
    click.echo(f"{name} is removed")


@model.command()
@where
def prices(*, url: str | None, token: str | None, data: Path | None) -> None:
    """Look up the prices of all models anew, but for those that were set by hand."""
    changed = run(lambda client: client.refresh_prices(), url, token, data)
    for one in changed:
        click.echo(f"{one.name}  {_price(one)}")
    click.echo(f"{len(changed)} changed")


async def _find(client: Client, name: str) -> Model:
    from steersman.chat.wishes import match_model

    found = await client.list_models()
    wanted = match_model(found, name)
    return next(one for one in found if one.name == wanted)


def _show(one: Model) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(one)).decode())


def changes(pairs: tuple[str, ...], options: str | None) -> tuple[dict[str, Any], JsonObject]:
    """What `--set` and `--options` say: fields of the model, and its settings.

    Raises:
        click.UsageError: A pair has no `=`, or the options are no JSON object.
    """
    fields: dict[str, Any] = {}
    settings: JsonObject = {}
    if options is not None:
        try:
            settings["options"] = msgspec.json.decode(options, type=JsonObject)
        except msgspec.DecodeError as error:
            raise click.UsageError(f"--options is no JSON object: {error}") from error
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise click.UsageError(f"{pair!r} is not of the form KEY=VALUE")
        value = _value(text)
        if key in _FIELDS:
            fields[key] = value
            continue
        *path, last = key.removeprefix("settings.").split(".")
        target = settings
        for name in path:
            below = target.setdefault(name, {})
            if not isinstance(below, dict):
                raise click.UsageError(f"{key!r}: {name!r} is set to something else already")
            target = cast("JsonObject", below)
        target[last] = value
    return fields, settings


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
