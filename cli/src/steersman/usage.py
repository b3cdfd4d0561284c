"""`steersman usage`: what was used and what it cost, over the public API."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, get_args

import click
import msgspec

from steersman.remote import money, run, table, where
from steersman_contracts.rpc.usage import GroupBy, UsageSum

_DAY: Final = click.DateTime(["%Y-%m-%d"])


@click.command(
    epilog="""\b
Examples:
  steersman usage
  steersman usage --by model --from 2026-11-01
  steersman usage --by user --json
"""
)
@click.option("--by", type=click.Choice(get_args(GroupBy)), default="day", show_default=True)
@click.option("--from", "first", type=_DAY, metavar="DAY", help="The first day, as 2026-11-01.")
@click.option("--to", "last", type=_DAY, metavar="DAY", help="The last day.")
@click.option("--chat", metavar="ID", help="Only this chat and its subagents.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@where
def usage(
    *,
    by: str,
    first: datetime | None,
    last: datetime | None,
    chat: str | None,
    limit: int,
    as_json: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Show tokens and costs: of your own chats, or of everybody's if you are an admin.

    A cost is marked with `+` where the prices of some steps are not known. Days are those of UTC.
    """
    report = run(
        lambda client: client.usage(
            group_by=by,
            chat_id=chat,
            limit=limit,
            **{
                "from": None if first is None else first.date().isoformat(),
                "to": None if last is None else last.date().isoformat(),
            },
        ),
        url,
        token,
        data,
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    rows = [_row(row.label or row.key, row) for row in report.rows]
    table(
        (by.upper(), "STEPS", "INPUT", "CACHED", "OUTPUT", "COST"), [*rows, _row("", report.total)]
    )
    if report.has_more:
        click.echo("there is more: see --limit")


def _row(name: str, row: UsageSum) -> tuple[str, ...]:
    return (
        name,
        str(row.steps),
        str(row.input_tokens),
        str(row.cache_read_tokens),
        str(row.output_tokens),
        cost(row),
    )


def cost(row: UsageSum) -> str:
    """The cost, and whether some of it is not known."""
    if row.cost_unknown_steps and row.cost_unknown_steps >= row.steps and not row.cost_micros:
        return "unknown"
    return money(row.cost_micros) + ("+" if row.cost_unknown_steps else "")
