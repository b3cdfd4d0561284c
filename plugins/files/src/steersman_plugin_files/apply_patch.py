"""`apply_patch`: change, make, move and delete files by one patch, all or nothing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import msgspec

from steersman_contracts.confinement import Place, Refused, Workspace, open_workspace, refusal
from steersman_contracts.hooks import ToolContext, ToolResult
from steersman_contracts.parts import JsonObject, JsonPart, TextPart
from steersman_plugin_files.changing import change, still_wanted
from steersman_plugin_files.edit import HalfDone
from steersman_plugin_files.patch import FilePatch, PatchRefused, parse, patched
from steersman_plugin_files.text import NotText, Text, decode, shown_name
from steersman_plugin_files.write import WRITE_MAX, Change, changeable, staged

PATCH_MAX: Final = 5 * 1024 * 1024
FILES_MAX: Final = 100
NOTHING_DONE: Final = "no files changed"

APPLY_PATCH: Final = (
    "Change, make, move and delete text files of the workspace by one patch; either all of it is "
    "applied or nothing. Form: '*** Begin Patch', then per file '*** Update File: PATH' with hunks "
    "('@@' and optionally a whole line above the place, then lines that begin with ' ', '-' or "
    "'+'; a hunk must fit exactly and in one place), optionally '*** Move to: PATH' first, or "
    "'*** Add File: PATH' with lines that begin with '+', or '*** Delete File: PATH', then "
    "'*** End Patch'. A unified diff is understood as well. Returns JSON with path, action and "
    "size per file. An error names file and hunk, and ends with 'no files changed'."
)


class ApplyPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `apply_patch`."""

    patch: Annotated[
        str,
        msgspec.Meta(
            min_length=1, max_length=PATCH_MAX, description="The patch, paths from the workspace."
        ),
    ]


@dataclass(slots=True)
class Step:
    """One change of one name that lies ready, and the way back."""

    do: Callable[[], None]
    undo: Callable[[], None]
    place: Place


async def apply_patch(context: ToolContext, args: ApplyPatch) -> ToolResult:
    """Apply all of it, or nothing."""
    try:
        return await change(_apply, context, args)
    except Refused as refused:
        return ToolResult.error(f"{refused}; {NOTHING_DONE}")
    except HalfDone as half:
        return ToolResult.error(str(half))


def _apply(context: ToolContext, args: ApplyPatch) -> ToolResult:
    try:
        args.patch.encode()
        files = parse(args.patch)
    except UnicodeEncodeError as error:
        raise Refused("the patch is not valid Unicode; remove lone surrogates") from error
    except PatchRefused as refused:
        raise Refused(f"the patch cannot be read: {refused}") from refused
    if len(files) > FILES_MAX:
        raise Refused(f"the patch changes {len(files)} files; at most {FILES_MAX} at once")
    with (
        open_workspace(context.workspace) as workspace,
        workspace.changing(),
        ExitStack() as stack,
    ):
        _check_names(workspace, files)
        steps: list[Step] = []
        facts: list[JsonObject] = []
        # Directories are made for new files alone, and when everything else is known to fit.
        for file in sorted(files, key=lambda file: file.kind == "add" or bool(file.move_to)):
            still_wanted(context)
            more, fact = _prepared(context, workspace, file, stack)
            steps += more
            facts.append(fact)
        still_wanted(context)
        run_all(steps)
    lines = "\n".join(f"{fact['action']}: {shown_name(fact['path'])}" for fact in facts)
    return ToolResult(content=(JsonPart({"files": facts}), TextPart(lines)))


def _check_names(workspace: Workspace, files: Sequence[FilePatch]) -> None:
    seen: set[tuple[str, ...]] = set()
    for file in files:
        for path in (file.path, *([file.move_to] if file.move_to else ())):
            names = workspace.split(path)
            if names in seen:
                raise Refused(f"{path!r} occurs twice in the patch; put all its hunks together")
            seen.add(names)


def _prepared(
    context: ToolContext, workspace: Workspace, file: FilePatch, stack: ExitStack
) -> tuple[list[Step], JsonObject]:
    place = stack.enter_context(workspace.place(file.path, create_parents=file.kind == "add"))
    match file.kind:
        case "add":
            data = _encoded(place, Text(file.content()))
            fact = {"path": place.shown, "action": "added", "size": len(data)}
            return [_made(workspace, place, data, None, stack)], fact
        case "delete":
            return [_removed(workspace, place, stack)], {"path": place.shown, "action": "deleted"}
        case "update":
            before, original = _original(workspace, place)
            try:
                body = patched(original.body, file, partial(still_wanted, context))
            except PatchRefused as refused:
                raise Refused(f"{place.shown!r}, {refused}") from refused
            data = _encoded(place, original.with_body(body))
            if file.move_to is None:
                fact = {"path": place.shown, "action": "updated", "size": len(data)}
                return [_replaced(workspace, place, data, before, stack)], fact
            target = stack.enter_context(workspace.place(file.move_to, create_parents=True))
            fact = {"path": target.shown, "action": "moved", "size": len(data), "from": place.shown}
            return [
                _made(workspace, target, data, before, stack),
                _removed(workspace, place, stack),
            ], fact


def _original(workspace: Workspace, place: Place) -> tuple[os.stat_result, Text]:
    changeable(workspace, place)
    with workspace.reading(place) as (opened, before):
        data = opened.read(WRITE_MAX + 1)
    if len(data) > WRITE_MAX:
        raise Refused(f"{place.shown!r} has more than {WRITE_MAX} bytes; use execute")
    try:
        return before, decode(data)
    except NotText as problem:
        raise Refused(f"{place.shown!r} is {problem}; use execute to change it") from problem


def _encoded(place: Place, text: Text) -> bytes:
    data = text.encode()
    if len(data) > WRITE_MAX:
        raise Refused(f"{place.shown!r} would have {len(data)} bytes; at most {WRITE_MAX}")
    return data


def _replaced(
    workspace: Workspace, place: Place, data: bytes, before: os.stat_result, stack: ExitStack
) -> Step:
    change = stack.enter_context(staged(workspace, place, data, before))
    kept = stack.enter_context(_kept(place))

    def do() -> None:
        now = workspace.existing(place)
        if now is None or _version(now) != _version(before):
            raise Refused(f"{place.shown!r} was changed by something else meanwhile; read it again")
        kept.link()
        change.publish()

    return Step(do, kept.restore, place)


def _made(
    workspace: Workspace,
    place: Place,
    data: bytes,
    like: os.stat_result | None,
    stack: ExitStack,
) -> Step:
    if workspace.existing(place) is not None:
        raise Refused(f"{place.shown!r} is there already; update it instead")
    change = stack.enter_context(staged(workspace, place, data, like))

    def undo() -> None:
        os.unlink(place.name, dir_fd=place.directory)

    return Step(lambda: _publish_new(change), undo, place)


def _publish_new(change: Change) -> None:
    place = change.place
    try:
        # Unlike a rename, this replaces nothing that has come meanwhile.
        os.link(
            change.temporary,
            place.name,
            src_dir_fd=place.directory,
            dst_dir_fd=place.directory,
            follow_symlinks=False,
        )
    except FileExistsError as error:
        raise Refused(f"{place.shown!r} is there already; update it instead") from error
    except OSError as error:
        raise refusal(error, place.shown) from error


def _removed(workspace: Workspace, place: Place, stack: ExitStack) -> Step:
    before = changeable(workspace, place)
    if before is None:
        raise Refused(f"{place.shown!r} does not exist; list_files shows what is there")
    kept = stack.enter_context(_kept(place))

    def do() -> None:
        now = workspace.existing(place)
        if now is None or _version(now) != _version(before):
            raise Refused(f"{place.shown!r} was changed by something else meanwhile; read it again")
        kept.take_away()

    return Step(do, kept.restore, place)


@dataclass(slots=True)
class _Kept:
    """A file under another name beside its own, until it is known that nobody wants it back."""

    place: Place
    name: str

    def link(self) -> None:
        """Give it the other name as well."""
        self._call(os.link, self.place.name, self.name, follow_symlinks=False)

    def take_away(self) -> None:
        """Give it the other name in place of its own."""
        self._call(os.rename, self.place.name, self.name)

    def restore(self) -> None:
        """Give it its own name back, whatever has that now."""
        self._call(os.rename, self.name, self.place.name)

    def _call(self, change: Callable[..., None], old: str, new: str, **more: bool) -> None:
        folder = self.place.directory
        try:
            change(old, new, src_dir_fd=folder, dst_dir_fd=folder, **more)
        except OSError as error:
            raise refusal(error, self.place.shown) from error


@contextmanager
def _kept(place: Place) -> Generator[_Kept]:
    kept = _Kept(place, f".steersman-{secrets.token_hex(8)}.old")
    try:
        yield kept
    finally:
        with suppress(OSError):  # it was not needed, or has its own name again
            os.unlink(kept.name, dir_fd=place.directory)


def run_all(steps: Sequence[Step]) -> None:
    """Do all steps; if one cannot be done, undo those before it, the last first.

    Raises:
        Refused: Nothing has changed.
        HalfDone: Something has, and could not be put back.
    """
    for index, step in enumerate(steps):
        try:
            step.do()
        except Refused as cause:
            stuck: list[str] = []
            for done in reversed(steps[:index]):
                try:
                    done.undo()
                except (Refused, OSError):
                    stuck.append(done.place.shown)
            if stuck:
                raise HalfDone(
                    f"{cause}; but {stuck} had been changed already, and are still"
                ) from cause
            raise


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
