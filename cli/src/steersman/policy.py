"""`steersman policy`: rules about tool calls, and what was decided, over the public API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, get_args

import click
import msgspec

from steersman.chat.words import harmless
from steersman.remote import checked, run, table, where
from steersman_contracts.ids import ChatId
from steersman_contracts.policies import Decision, Level, Rule
from steersman_contracts.rest import PolicyBody, RuleInput
from steersman_contracts.rpc.policies import AuditEntry, DryRunReport, JudgedCall, Policy

if TYPE_CHECKING:
    from steersman.client import Client

_SHOWN: Final = 100
_EXAMPLES: Final = """\b
Examples:
  steersman policy show --level system
  steersman policy show --json > rules.json
  steersman policy set rules.json
  steersman policy dry-run 01a2… --decision ask --tool execute --argument 'command=rm *'
  steersman policy grants
  steersman policy revoke execute

\b
A file holds what `show --json` prints: {"rules": [{"decision": "ask", "tool": "execute",
"arguments": {"command": "rm *"}, "when": "…", "reason": "…"}], "version": 3}. With its `version`
nobody else's change is overwritten.
"""


@click.group(epilog=_EXAMPLES)
def policy() -> None:
    """Rules about tool calls: which run, which a person is asked about, which are refused."""


def _of_level(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say whose rules."""
    chat = click.option("--chat", metavar="CHAT", help="The rules of this chat.")
    level = click.option(
        "--level",
        type=click.Choice(("system", "user")),
        default="user",
        show_default=True,
        help="The deployment's, or your own.",
    )
    return level(chat(command))


@policy.command()
@_of_level
@click.option("--json", "as_json", is_flag=True, help="For a file that `set` reads.")
@where
def show(
    *,
    level: Level,
    chat: str | None,
    as_json: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Show rules, in the order in which they are looked at."""

    async def work(client: Client) -> Policy:
        return await _get(client, level, chat)

    found = run(work, url, token, data)
    if as_json:
        body = PolicyBody(tuple(_as_input(rule) for rule in found.rules), found.version)
        click.echo(msgspec.json.format(msgspec.json.encode(body)))
        return
    rows = [
        (rule.decision, rule.tool, _condition(rule), harmless(rule.reason)) for rule in found.rules
    ]
    table(("DECISION", "TOOL", "WHEN", "REASON"), rows)


@policy.command("set")
@click.argument("file", type=click.File("rb"))
@_of_level
@where
def set_rules(
    *,
    file: BinaryIO,
    level: Level,
    chat: str | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Replace rules by those of FILE; `-` reads the input."""
    try:
        body = msgspec.json.decode(file.read(), type=PolicyBody)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file.name}: {error}") from error

    async def work(client: Client) -> Policy:
        rules, version = body.rules, body.version
        if chat is not None:
            return await client.put_policy("chat", rules, chat_id=ChatId(chat), version=version)
        return await client.put_policy(level, rules, version=version)

    changed = run(work, url, token, data)
    click.echo(f"{len(changed.rules)} rules are in force, version {changed.version}")


@policy.command("dry-run")
@click.argument("chat")
@click.option("--decision", type=click.Choice(get_args(Decision)), required=True)
@click.option("--tool", default="*", help="A pattern of tool names.", show_default=True)
@click.option("--argument", "arguments", multiple=True, metavar="NAME=PATTERN")
@click.option("--when", default="", help="A CEL expression over tool, args, chat and workspace.")
@click.option("--level", type=click.Choice(get_args(Level)), default="chat", show_default=True)
@click.option("--all", "everything", is_flag=True, help="Also calls that nothing changes for.")
@where
def dry_run(
    *,
    chat: str,
    decision: Decision,
    tool: str,
    arguments: Sequence[str],
    when: str,
    level: Level,
    everything: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Show what a new first rule would have done to the calls of the chat CHAT. Changes nothing."""
    draft = checked(RuleInput(decision, tool, _patterns(arguments), when))

    async def work(client: Client) -> DryRunReport:
        present = await _get(client, level, chat if level == "chat" else None)
        rules = [draft, *map(_as_input, present.rules)]
        return await client.dry_run_policy(ChatId(chat), level, rules)

    for line in report_lines(run(work, url, token, data), everything=everything):
        click.echo(line)


@policy.command()
@where
def grants(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List the tools that you have allowed for a chat or for good."""
    found = run(lambda client: client.list_grants(), url, token, data)
    rows = [
        (harmless(one.tool), one.chat_id or "every chat of yours", f"{one.granted_at:%Y-%m-%d}")
        for one in found.grants
    ]
    table(("TOOL", "IN", "SINCE"), rows)
    if found.has_more:
        click.echo("there are older ones")


@policy.command()
@click.argument("tool")
@click.option("--chat", metavar="CHAT", help="What was allowed for this chat.")
@where
def revoke(
    *, tool: str, chat: str | None, url: str | None, token: str | None, data: Path | None
) -> None:
    """Be asked about TOOL again: wherever you allowed it always, or in one chat."""
    chat_id = None if chat is None else ChatId(chat)
    run(lambda client: client.revoke_grant(tool, chat_id), url, token, data)
    click.echo(f"{tool} is asked about again")


@policy.command()
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@where
def audit(*, limit: int, url: str | None, token: str | None, data: Path | None) -> None:
    """Show who decided what, newest first: all of it for administrators, else your own."""
    found = run(lambda client: client.list_audit(limit=limit), url, token, data)
    rows = [
        (
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            one.action,
            one.actor_id or "nobody",
            one.chat_id or "",
            details_text(one),
        )
        for one in found.entries
    ]
    table(("AT", "WHAT", "WHO", "CHAT", "DETAILS"), rows)


def details_text(entry: AuditEntry) -> str:
    """What is shown of an entry's details."""
    return harmless(msgspec.json.encode(entry.details).decode())[:_SHOWN]


def report_lines(report: DryRunReport, *, everything: bool) -> list[str]:
    """What is shown of a report."""
    lines = [_line(call) for call in report.calls if everything or _differs(call)]
    lines.append(f"{report.changed} of {len(report.calls)} calls would have gone another way")
    if report.truncated:
        lines.append("older calls were not looked at")
    if report.without_tools:
        lines.append("the tools did not answer: what they themselves want asked is not known")
    return lines


def _line(call: JudgedCall) -> str:
    what = harmless(f"{call.tool} {call.arguments}")
    change = call.after.decision
    if _differs(call):
        change = f"{call.before.decision} → {call.after.decision}"
    return f"{change:<14}  {what[:_SHOWN]}"


def _differs(call: JudgedCall) -> bool:
    return call.before.decision != call.after.decision


async def _get(client: Client, level: Level, chat: str | None) -> Policy:
    if chat is not None:
        return await client.get_policy("chat", ChatId(chat))
    return await client.get_policy(level)


def _condition(rule: Rule) -> str:
    patterns = [f"{name} like {pattern}" for name, pattern in rule.arguments.items()]
    return harmless(" and ".join(filter(None, (*patterns, rule.when))) or "always")


def _as_input(rule: Rule) -> RuleInput:
    return RuleInput(**msgspec.structs.asdict(rule))


def _patterns(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, sign, pattern = one.partition("=")
        if not sign:
            raise click.UsageError(f"{one!r} is not NAME=PATTERN")
        found[name] = pattern
    return found
