"""`steersman skill`: what models can read when a certain kind of work comes up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from steersman.remote import checked, run, table, where
from steersman_contracts.rest_prompts import SkillInput
from steersman_contracts.skills import skill_summary, without_front_matter

if TYPE_CHECKING:
    from steersman.client import Client

_FILE: Final = "SKILL.md"
_MAX_FILES: Final = 50


@click.group(
    epilog="""\b
Examples:
  steersman skill put .agents/skills/release-notes
  steersman skill list
  steersman skill remove release-notes
"""
)
def skill() -> None:
    """Give every chat of the deployment a skill, or take it away."""


@skill.command("list")
@where
def list_skills(*, url: str | None, token: str | None, data: Path | None) -> None:
    """List the skills that every chat has."""
    rows = [
        (one.name, one.description)
        for one in run(lambda client: client.list_skills(), url, token, data)
    ]
    table(("NAME", "WHAT IT IS FOR"), rows)


@skill.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@where
def put(*, folder: Path, url: str | None, token: str | None, data: Path | None) -> None:
    """Upload the skill in FOLDER: its SKILL.md, and the text files beside it."""
    name, body = _read(folder)

    async def work(client: Client) -> None:
        await client.put_skill(name, body)

    run(work, url, token, data)
    click.echo(f"every chat has {name} now")


@skill.command()
@click.argument("name")
@where
def show(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Print the skill NAME."""
    found = run(lambda client: client.get_skill(name), url, token, data)
    click.echo(f"{found.name}: {found.description}\n\n{found.text}")
    for path in sorted(found.files):
        click.echo(f"+ {path}")


@skill.command()
@click.argument("name")
@where
def remove(*, name: str, url: str | None, token: str | None, data: Path | None) -> None:
    """Take the skill NAME away."""
    run(lambda client: client.delete_skill(name), url, token, data)
    click.echo(f"{name} is removed")


def _read(folder: Path) -> tuple[str, SkillInput]:
    folder = folder.resolve()
    texts: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            texts[path.relative_to(folder).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise click.ClickException(f"{path} is not text") from error
        if len(texts) > _MAX_FILES + 1:
            raise click.ClickException(f"{folder} has more than {_MAX_FILES} files")
    main = texts.pop(_FILE, None)
    if main is None:
        raise click.ClickException(f"{folder} has no {_FILE}")
    summary = skill_summary(main, folder.name)
    if summary is None:
        raise click.ClickException(
            f"{folder / _FILE} has to begin with a front matter that has a description, "
            "and the folder's name is the skill's: lower-case letters, digits, - and _"
        )
    text = without_front_matter(main) or summary.description
    return summary.name, checked(SkillInput(summary.description, text, texts))
