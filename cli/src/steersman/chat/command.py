"""The command itself: what is asked for, and which of the ways to chat that means."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Final, TextIO

import click

from steersman.datadir import VARIABLE
from steersman_contracts.ids import is_chat_id
from steersman_contracts.model_options import EFFORTS, Effort

_EPILOG: Final = """\b
Examples:
  steersman chat                              talk, line by line
  steersman chat "Write two lines about the sea"
  echo question | steersman chat --print      the answer as plain text
  git diff | steersman chat "Review this:" -  the dash stands for the input
  steersman chat --model demo/tour "Hello"
  steersman chat --resume                     go on with the last chat

\b
While an answer comes, Ctrl-C ends the turn and keeps what was said; Ctrl-C again within two
seconds leaves. A turn goes on without a watcher: --resume shows it again.

\b
Environment:
  STEERSMAN_URL, STEERSMAN_TOKEN   where to chat, and as whom; otherwise the data directory says

\b
Exit status:
  0  answered              1  the turn ended with an error
  2  bad usage             4  no Steersman answers
  130  the turn was interrupted, or left
"""


@click.command(epilog=_EPILOG, context_settings={"max_content_width": 100})
@click.argument("message", nargs=-1)
@click.option("--model", "-m", metavar="NAME", help="Which model answers, such as demo/tour.")
@click.option(
    "--effort",
    "-e",
    type=click.Choice(EFFORTS),
    help="How hard the model thinks, as far as it is allowed to.",
)
@click.option(
    "--resume",
    "-r",
    metavar="[CHAT_ID]",
    is_flag=False,
    flag_value="",
    help="Go on with a chat; without an id with the last one. Shows a turn that runs.",
)
@click.option("--system", "-s", metavar="TEXT", help="Instructions for the model.")
@click.option(
    "--schema",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A JSON Schema: answer with JSON of this form.",
)
@click.option("--no-reasoning", is_flag=True, help="Do not show what the model thinks.")
@click.option(
    "--print",
    "-p",
    "plain",
    is_flag=True,
    help="Print the text of the answer and nothing else. Implied when the output is no terminal.",
)
@click.option("--url", metavar="URL", help="Where Steersman is.")
@click.option("--token", metavar="TOKEN", help="An API token; better in STEERSMAN_TOKEN.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=VARIABLE,
    show_envvar=True,
    help="The data directory of the Steersman on this machine.",
)
def chat(
    *,
    message: tuple[str, ...],
    model: str | None,
    effort: Effort | None,
    resume: str | None,
    system: str | None,
    schema: Path | None,
    no_reasoning: bool,
    plain: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
) -> None:
    """Chat with a model: one MESSAGE, or line by line without one.

    Several words make one message; a single dash among them stands for the standard input.
    """
    # Imported here: the help need not wait for all that is needed to chat.
    from steersman.chat.advice import failure
    from steersman.chat.schemas import read_schema
    from steersman.chat.start import Request, start
    from steersman.chat.wishes import Wishes
    from steersman.client import ClientError
    from steersman.client.access import find_access

    if resume and not is_chat_id(resume):  # an option takes the next word, whatever it is
        message, resume = (resume, *message), ""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that cannot be is no reason to end
            stream.reconfigure(errors="replace")
    plain = plain or not sys.stdout.isatty()
    text = message_text(message, sys.stdin)
    if text is None and resume is None and (plain or not sys.stdin.isatty()):
        raise click.UsageError("no message: give one, or pipe it in")
    request = Request(
        text=text,
        resume=resume,
        interactive=text is None and not plain and sys.stdin.isatty(),
        plain=plain,
        reasoning=not no_reasoning,
    )
    try:
        wishes = Wishes(
            model=model,
            system=system or "",
            effort=effort,
            response_schema=None if schema is None else read_schema(schema),
        )
        code = start(find_access(url, token, data), request, wishes)
    except ClientError as error:
        told = failure(error, url)
        click.echo(f"steersman: {told.text}", err=True)
        code = told.code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def message_text(words: tuple[str, ...], source: TextIO) -> str | None:
    """The message, from the words and where they say so from the input; None when there is none."""
    if not words:
        return None if source.isatty() else source.read().strip() or None
    text = ""
    for place, word in enumerate(words):
        piped = word == "-"
        if text:
            # What was piped in is a paragraph of its own.
            text += "\n\n" if piped or words[place - 1] == "-" else " "
        text += source.read().strip() if piped else word
    return text.strip() or None
