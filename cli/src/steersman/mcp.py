"""`steersman mcp`: servers of the Model Context Protocol whose tools chats can use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args
from urllib.parse import parse_qs, urlsplit

import click

from steersman.remote import checked, run, table, where
from steersman_contracts.rest import CreateMcpServerBody, FinishMcpLoginBody
from steersman_contracts.rpc.mcp import McpAvailability, McpServer, McpTransport

if TYPE_CHECKING:
    from steersman.client import Client

_EXAMPLES: Final = """\b
Examples:
  steersman mcp add github https://mcp.example.com/mcp --oauth
  steersman mcp login github
  steersman mcp add wiki https://wiki.example.com/mcp --key-env WIKI_KEY --deny 'delete_*'
  steersman mcp add time --shared --command uvx --command mcp-server-time

\b
Keys are read from a variable or from the input, never from the command line, where other users of
this machine could see them. They are stored encrypted and are never shown again.
"""


@click.group(epilog=_EXAMPLES)
def mcp() -> None:
    """Add, list and remove MCP servers, and sign in at them."""


@mcp.command("list")
@where
def list_servers(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List your servers and those of the deployment, and what is wrong with them."""
    servers = run(lambda client: client.list_mcp_servers(), url, token, data)
    rows = [
        (
            one.slug,
            "everybody" if one.shared else "you",
            one.availability if one.enabled else "disabled",
            one.url or " ".join(one.command) or "a process",
            _state(one),
        )
        for one in servers
    ]
    table(("SLUG", "FOR", "IN CHATS", "WHERE", "STATE"), rows)


@mcp.command(epilog=_EXAMPLES, context_settings={"max_content_width": 100})
@click.argument("slug")
@click.argument("address", required=False)
@click.option("--sse", is_flag=True, help="It speaks HTTP with server-sent events, as before 2025.")
@click.option("--command", "command", multiple=True, help="A process: a word of it, repeated.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VARIABLE", help="For a process.")
@click.option("--key-env", metavar="VARIABLE", help="The environment variable with the key.")
@click.option("--key-stdin", is_flag=True, help="Read the key from the input (asks at a terminal).")
@click.option("--header-env", "headers", multiple=True, metavar="NAME=VARIABLE", help="A header.")
@click.option(
    "--oauth", is_flag=True, help="It wants people to sign in: see `steersman mcp login`."
)
@click.option("--allow", multiple=True, metavar="PATTERN", help="Only these of its tools.")
@click.option("--deny", multiple=True, metavar="PATTERN", help="None of these.")
@click.option(
    "--read-only", multiple=True, metavar="PATTERN", help="These change nothing anywhere."
)
@click.option(
    "--availability",
    type=click.Choice(get_args(McpAvailability)),
    default="default_on",
    show_default=True,
    help="In which chats it is.",
)
@click.option("--ask", is_flag=True, help="Ask a person before each call.")
@click.option("--shared", is_flag=True, help="For everybody (administrators only).")
@where
def add(
    *,
    slug: str,
    address: str | None,
    sse: bool,
    command: tuple[str, ...],
    variables: tuple[str, ...],
    key_env: str | None,
    key_stdin: bool,
    headers: tuple[str, ...],
    oauth: bool,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    read_only: tuple[str, ...],
    availability: str,
    ask: bool,
    shared: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Add the server SLUG at ADDRESS; its tools are called SLUG__NAME."""
    if bool(address) == bool(command):
        raise click.UsageError("give either an ADDRESS or a --command")
    if sum((bool(key_env or key_stdin), bool(headers), oauth)) > 1:
        raise click.UsageError("a key, headers or --oauth: one of them")
    kind: McpTransport = "stdio" if command else "sse" if sse else "http"
    key = _key(key_env, from_stdin=key_stdin)
    described: dict[str, Any] = {"api_key": key, "headers": _values(headers) or None}
    if command:
        described["env"] = _values(variables) or None
    body = checked(
        CreateMcpServerBody(
            slug=slug,
            transport=kind,
            url=address,
            command=command,
            auth="api_key" if key else "headers" if headers else "oauth" if oauth else "none",
            allow=allow,
            deny=deny,
            read_only=read_only,
            availability=cast("McpAvailability", availability),
            needs_approval=ask,
            shared=shared,
            **described,
        )
    )
    made = run(lambda client: client.create_mcp_server(body), url, token, data)
    click.echo(f"{made.slug} is there for {'everybody' if made.shared else 'your chats'}")
    if made.login == "needed":
        click.echo(f"sign in:  steersman mcp login {made.slug}")


@mcp.command()
@click.argument("slug")
@where
def remove(*, slug: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Remove the server SLUG, with everything that was stored for it."""

    async def work(client: Client) -> None:
        await client.delete_mcp_server((await _find(client, slug)).id)

    run(work, url, token, data)
    click.echo(f"{slug} is gone")


@mcp.command()
@click.argument("slug")
@where
def login(*, slug: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Sign in at the server SLUG: in a browser, and back here."""

    async def begin(client: Client) -> str:
        return await client.begin_mcp_login((await _find(client, slug)).id)

    there = run(begin, url, token, data)
    click.echo(f"Open this address and sign in:\n\n{there}\n")
    click.echo("You come to a page of Steersman. Paste its address here.")
    body = _came_back(str(click.prompt("Address", prompt_suffix=": ")))
    done = run(lambda client: client.finish_mcp_login(body), url, token, data)
    click.echo(f"you are signed in at {done.slug}")


@mcp.command()
@click.argument("slug")
@where
def logout(*, slug: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Forget what the server SLUG has given you."""

    async def work(client: Client) -> None:
        await client.end_mcp_login((await _find(client, slug)).id)

    run(work, url, token, data)
    click.echo(f"you are signed out of {slug}")


async def _find(client: Client, slug: str) -> McpServer:
    for server in await client.list_mcp_servers():
        if server.slug == slug:
            return server
    raise click.UsageError(f"there is no server {slug!r}; see `steersman mcp list`")


def _came_back(address: str) -> FinishMcpLoginBody:
    query = parse_qs(urlsplit(address.strip()).query)
    found = {name: query[name][0] for name in ("state", "code", "iss") if name in query}
    if not {"state", "code"} <= found.keys():
        raise click.UsageError("that address holds no sign-in; begin again")
    return checked(FinishMcpLoginBody(found["state"], found["code"], found.get("iss")))


def _state(server: McpServer) -> str:
    match server.login:
        case "needed":
            return "sign in first"
        case "expired":
            return "sign in again"
        case _:
            return server.problem or "ready"


def _values(pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, variable = pair.partition("=")
        if not separator or not name:
            raise click.UsageError(f"{pair!r} is not of the form NAME=VARIABLE")
        found[name] = _variable(variable)
    return found


def _variable(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise click.UsageError(f"the variable {name} is empty or not set")
    return value


def _key(variable: str | None, *, from_stdin: bool) -> str | None:
    if variable is not None and from_stdin:
        raise click.UsageError("either --key-env or --key-stdin")
    if variable is not None:
        return _variable(variable)
    if not from_stdin:
        return None
    asked = click.prompt("Key", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    key = str(asked).strip()
    if not key:
        raise click.UsageError("there was no key in the input")
    return key
