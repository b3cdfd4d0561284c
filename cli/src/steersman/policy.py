"""`steersman policy`: rules about tool calls, over the public API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import click
import msgspec

from steersman.chat.words import harmless
from steersman.remote import checked, run, where
from steersman_contracts.ids import ChatId
from steersman_contracts.policies import Decision, Level, Rule
from steersman_contracts.rest import RuleInput
from steersman_contracts.rpc.policies import DryRunReport, JudgedCall

if TYPE_CHECKING:
    from steersman.client import Client

_SHOWN: Final = 100


@click.group(
    epilog="""\b
Examples:
  steersman policy dry-run 01a2… --decision ask --tool execute --argument 'command=rm *'
"""
)
def policy() -> None:
    """Try out rules about tool calls."""


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
        present = await client.get_policy(level, ChatId(chat) if level == "chat" else None)
        rules = [draft, *map(_as_input, present.rules)]
        return await client.dry_run_policy(ChatId(chat), level, rules)

    for line in report_lines(run(work, url, token, data), everything=everything):
        click.echo(line)


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
