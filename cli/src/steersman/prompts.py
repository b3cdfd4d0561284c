"""`steersman prompt` and `steersman instructions`: what models are told before any chat."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from steersman.chat.words import harmless
from steersman.remote import checked, run, where
from steersman_contracts.rest_prompts import InstructionsBody, PromptBody

if TYPE_CHECKING:
    from steersman.client import Client
    from steersman_contracts.rpc.prompts import Prompt


def _text(value: str | None, file: IO[str] | None) -> str | None:
    if value is not None and file is not None:
        raise click.UsageError("give TEXT or --file, not both")
    try:
        return value if file is None else file.read().strip()
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file and file.name} is not text") from error


_from_file = click.option(
    "--file", type=click.File(encoding="utf-8"), help="Read the text from a file; - is stdin."
)


@click.group(
    epilog="""\b
Examples:
  steersman prompt show
  steersman prompt set --file prompt.md
  steersman prompt set ''    # back to the default
"""
)
def prompt() -> None:
    """What every model of the deployment is told."""


@prompt.command("show")
@where
def show_prompt(*, url: str | None, token: str | None, data: Path | None) -> None:
    """Print the deployment's prompt."""
    click.echo(_shown(run(lambda client: client.get_prompt(), url, token, data).text))


@prompt.command("set")
@click.argument("text", required=False)
@_from_file
@where
def set_prompt(
    *,
    text: str | None,
    file: IO[str] | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Put TEXT in its place; empty takes the default back. Admins only."""
    wanted = _text(text, file)
    if wanted is None:
        raise click.UsageError("give TEXT or --file")
    body = checked(PromptBody(wanted))
    run(lambda client: client.put_prompt(body.text), url, token, data)
    click.echo("every model is told that from its next step on" if wanted else "default is back")


@click.group(
    epilog="""\b
Examples:
  steersman instructions set 'Answer in metric units.'
  steersman instructions set --threshold 50
"""
)
def instructions() -> None:
    """What the models of all your chats are told, and when those are summarised."""


@instructions.command("show")
@where
def show_instructions(*, url: str | None, token: str | None, data: Path | None) -> None:
    """Print your own instructions."""
    for line in instruction_lines(run(lambda client: client.get_instructions(), url, token, data)):
        click.echo(line)


@instructions.command("set")
@click.argument("text", required=False)
@_from_file
@click.option(
    "--threshold",
    type=click.IntRange(0, 100),
    help="Summarise at this percent of a model's window; 100 is never, 0 is as the model says.",
)
@where
def set_instructions(
    *,
    text: str | None,
    file: IO[str] | None,
    threshold: int | None,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Put TEXT in their place; empty is none. What is left out stays as it is."""
    wanted = _text(text, file)
    if wanted is None and threshold is None:
        raise click.UsageError("give TEXT, --file or --threshold")
    if wanted is not None:
        checked(InstructionsBody(wanted))  # before anything is asked of the server

    async def work(client: Client) -> Prompt:
        present = await client.get_instructions()
        return await client.put_instructions(changed(present, wanted, threshold))

    for line in instruction_lines(run(work, url, token, data)):
        click.echo(line)


def changed(present: Prompt, text: str | None, threshold: int | None) -> InstructionsBody:
    """What is stored: None leaves a thing as it is, a threshold of 0 takes one's own away."""
    return InstructionsBody(
        present.text if text is None else text,
        present.compaction_threshold if threshold is None else threshold or None,
    )


def instruction_lines(found: Prompt) -> list[str]:
    """How one's own instructions are shown."""
    own = found.compaction_threshold
    if own is None:
        when = "as the model says"
    else:
        when = "never" if own == 100 else f"at {own} % of the model's window"
    return [_shown(found.text), f"(summaries: {when})"]


def _shown(text: str) -> str:
    return harmless(text) or "(none)"
