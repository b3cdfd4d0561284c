"""The words of an organisation: an administrator stores them, models look them up."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from steersman_contracts.hooks import (
    PluginHost,
    PluginOff,
    Tool,
    ToolContext,
    ToolResult,
    hookimpl,
)

steersman_api = 1


class Settings(msgspec.Struct, frozen=True):
    """What an administrator may set."""

    terms: Annotated[dict[str, str], msgspec.Meta(description="Term → what it means here.")] = {}


class Define(msgspec.Struct, frozen=True):
    """Arguments of `define_term`."""

    term: Annotated[str, msgspec.Meta(description="The term, in any case.", max_length=200)]


class Propose(msgspec.Struct, frozen=True):
    """Arguments of `propose_term`."""

    term: Annotated[str, msgspec.Meta(description="The new term.", min_length=1, max_length=200)]
    meaning: Annotated[str, msgspec.Meta(description="In one sentence.", max_length=2_000)]


async def define_term(context: ToolContext, args: Define) -> ToolResult:
    """Look a term up."""
    settings: Settings = context.settings
    known = {term.casefold(): (term, meaning) for term, meaning in settings.terms.items()}
    found = known.get(args.term.casefold())
    if found is None:
        return ToolResult.error(f"{args.term!r} is not in the glossary; {len(known)} terms are")
    return ToolResult(f"{found[0]}: {found[1]}")


async def propose_term(context: ToolContext, args: Propose) -> ToolResult:
    """Write a proposal into the workspace."""
    with (context.workspace / "glossary-proposals.txt").open("a", encoding="utf-8") as file:
        file.write(f"{args.term}: {args.meaning}\n")
    return ToolResult(f"{args.term} is proposed; a person decides")


@hookimpl
def settings() -> type[Settings]:
    """Declare the settings."""
    return Settings


@hookimpl
def start(host: PluginHost) -> None:
    """Without terms there is nothing to look up."""
    if not host.settings.terms:
        raise PluginOff("no terms are stored")


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the tools."""
    return [
        Tool(
            "define_term",
            "Looks up what a term means in this organisation. Use it before you explain a term.",
            Define,
            define_term,
            read_only=True,
        ),
        Tool(
            "propose_term",
            "Proposes a new term for the glossary. The turn ends; a person decides about it.",
            Propose,
            propose_term,
            exclusive=True,
            ends_turn=True,
            needs_workspace=True,
        ),
    ]


@hookimpl
def prompt() -> str:
    """Say what a model has to know."""
    return "This organisation has a glossary: ask `define_term` rather than guess."
