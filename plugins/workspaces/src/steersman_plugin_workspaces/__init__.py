"""Tools with which a model looks for a template, and makes, starts and stops its workspace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec

from steersman_contracts.errors import SteersmanError
from steersman_contracts.hooks import Tool, ToolContext, ToolResult, hookimpl
from steersman_contracts.workspaces import Desk, HasDesk, Value, Workspace

_NONE_HERE: Final = (
    "this deployment has no workspaces; files and commands have a plain directory, without asking"
)
_MAKING_S: Final = 3900.0
"""As long as the longest set-up, and some more to wait for its beginning."""

LIST_TEMPLATES: Final = (
    "List the templates that workspaces are made of, ten on a page, the best match first. Use it "
    "before create_workspace, unless you know the id. Returns JSON: templates (id, name, "
    "description, icon, driver, uses), page, pages, total."
)
READ_TEMPLATE: Final = (
    "Show one template: what it is for, and its parameters with their types, defaults, options "
    "and limits. Use it before create_workspace when a template has parameters. Returns JSON."
)
CREATE_WORKSPACE: Final = (
    "Give this chat a workspace made of a template: a directory with what its set-up puts there, "
    "in which files are read and written and commands run from then on. Safe to repeat: a chat has "
    "one workspace, and one that is being made is waited for. Returns JSON: outcome (created, "
    "already_exists, failed) and workspace (id, name, template, state, reason)."
)
START_WORKSPACE: Final = (
    "Start this chat's workspace again after it was stopped. Its files are as they were, its "
    "processes are gone. Returns JSON: workspace."
)
STOP_WORKSPACE: Final = (
    "Stop this chat's workspace: all its processes end, its files stay. Use it when the work is "
    "done, or to end everything that runs. Returns JSON: workspace."
)

TemplateIdText = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=100, description="The id, from list_templates."),
]


class ListTemplates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `list_templates`."""

    query: Annotated[
        str,
        msgspec.Meta(
            max_length=200,
            description="Words that id, name or description have; empty lists everything.",
        ),
    ] = ""
    page: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The page, from 1.")] = 1


class ReadTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `read_template`."""

    template_id: TemplateIdText


class CreateWorkspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `create_workspace`."""

    template_id: TemplateIdText
    name: Annotated[
        str,
        msgspec.Meta(max_length=100, description="What people shall call it; may be empty."),
    ] = ""
    parameters: Annotated[
        dict[str, Value],
        msgspec.Meta(description="Values of the template's parameters, by name."),
    ] = {}


class StartWorkspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`start_workspace` has no arguments."""


class StopWorkspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stop_workspace` has no arguments."""


async def list_templates(context: ToolContext, args: ListTemplates) -> ToolResult:
    """Answer with one page."""

    async def work(desk: Desk) -> ToolResult:
        return ToolResult.json(msgspec.to_builtins(await desk.templates(args.query, args.page)))

    return await _at_desk(context, work)


async def read_template(context: ToolContext, args: ReadTemplate) -> ToolResult:
    """Answer with the template."""

    async def work(desk: Desk) -> ToolResult:
        return ToolResult.json(msgspec.to_builtins(await desk.template(args.template_id)))

    return await _at_desk(context, work)


async def create_workspace(context: ToolContext, args: CreateWorkspace) -> ToolResult:
    """Make the workspace, or say that there is one."""

    async def work(desk: Desk) -> ToolResult:
        made = await desk.create(args.template_id, args.name, args.parameters, context.progress)
        result = ToolResult.json(
            {"outcome": made.outcome, "workspace": _shown(made.workspace)},
        )
        return msgspec.structs.replace(result, is_error=made.outcome == "failed")

    return await _at_desk(context, work)


async def start_workspace(context: ToolContext, _: StartWorkspace) -> ToolResult:
    """Start it."""
    return await _at_desk(context, lambda desk: _as_result(desk.start()))


async def stop_workspace(context: ToolContext, _: StopWorkspace) -> ToolResult:
    """Stop it."""
    return await _at_desk(context, lambda desk: _as_result(desk.stop()))


async def _at_desk(
    context: ToolContext, work: Callable[[Desk], Awaitable[ToolResult]]
) -> ToolResult:
    desk = context.desk if isinstance(context, HasDesk) else None
    if desk is None:
        return ToolResult.error(_NONE_HERE)
    try:
        return await work(desk)
    except SteersmanError as error:
        return ToolResult.error(str(error))


async def _as_result(change: Awaitable[Workspace]) -> ToolResult:
    workspace = await change
    result = ToolResult.json({"workspace": _shown(workspace)})
    return msgspec.structs.replace(result, is_error=workspace.state == "failed")


def _shown(workspace: Workspace) -> dict[str, str]:
    shown = {
        "id": workspace.id,
        "name": workspace.name,
        "template": workspace.template,
        "state": workspace.state,
    }
    return shown | ({"reason": workspace.reason} if workspace.reason else {})


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the five tools."""
    return [
        Tool("list_templates", LIST_TEMPLATES, ListTemplates, list_templates, read_only=True),
        Tool("read_template", READ_TEMPLATE, ReadTemplate, read_template, read_only=True),
        Tool(
            "create_workspace",
            CREATE_WORKSPACE,
            CreateWorkspace,
            create_workspace,
            timeout_s=_MAKING_S,
            idempotent=True,
        ),
        Tool(
            "start_workspace",
            START_WORKSPACE,
            StartWorkspace,
            start_workspace,
            idempotent=True,
        ),
        Tool("stop_workspace", STOP_WORKSPACE, StopWorkspace, stop_workspace, idempotent=True),
    ]
