"""Templates of workspaces: folders with a `template.toml`, the administrator's and our own.

They are read anew at every question: an administrator changes a file, and that is all.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import structlog

from steersman_contracts.errors import InvalidRequest, NotFound
from steersman_contracts.ids import SLUG_PATTERN
from steersman_contracts.workspaces import (
    MAX_VALUE,
    PAGE,
    Parameter,
    Template,
    TemplatePage,
    TemplateSummary,
    Value,
)

log = structlog.stdlib.get_logger()

FILE: Final = "template.toml"
BUILT_IN: Final = Path(__file__).with_name("built_in_templates")
MAX_TEMPLATES: Final = 1_000
MAX_BYTES: Final = 256 << 10
_ID: Final = re.compile(SLUG_PATTERN)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_KINDS: Final[Mapping[str, type]] = {"string": str, "integer": int, "boolean": bool}


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes an empty directory a workspace."""

    script: Annotated[str, msgspec.Meta(max_length=100_000)]
    """For bash, in the workspace, confined like every command of a model."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 300.0


class Container(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a workspace of the driver `container` runs in."""

    image: Annotated[str, msgspec.Meta(max_length=500, pattern=r"^([a-z0-9][^\s]*)?$(?!\n)")] = ""
    """It holds the tools service; empty is the deployment's own."""
    memory_mib: Annotated[int, msgspec.Meta(ge=128, le=1 << 20)] = 4096
    cpus: Annotated[float, msgspec.Meta(gt=0, le=1024)] = 2.0
    processes: Annotated[int, msgspec.Meta(ge=32, le=65_536)] = 1024
    """And threads, of all that runs in it."""


class ParameterSource(Parameter, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A parameter as it is written: a typing error must not go unnoticed."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A `template.toml`."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    description: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    icon: Annotated[str, msgspec.Meta(max_length=200)] = ""
    driver: Literal["local", "container"] = "local"
    container: Container = Container()
    parameters: Annotated[tuple[ParameterSource, ...], msgspec.Meta(max_length=50)] = ()
    setup: Setup | None = None
    environment: dict[str, Annotated[str, msgspec.Meta(max_length=MAX_VALUE)]] = {}


class BadTemplate(ValueError):
    """What is wrong with a template, in words for whoever wrote it."""


def parse(text: str) -> Source:
    """Read a `template.toml`, and check it.

    Raises:
        BadTemplate: It cannot be used.
    """
    try:
        source = msgspec.convert(tomllib.loads(text), Source)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadTemplate(str(error)) from error
    names = [parameter.name for parameter in source.parameters]
    if len(set(names)) < len(names):
        raise BadTemplate("two parameters have the same name")
    for name, value in source.environment.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise BadTemplate(f"not a variable of an environment: {name!r}")
    for parameter in source.parameters:
        _check_parameter(parameter)
    if source.driver == "local" and source.container != Container():
        raise BadTemplate("only the driver 'container' has a container")
    return source


def _check_parameter(parameter: Parameter) -> None:
    if parameter.pattern:
        try:
            re.compile(parameter.pattern)
        except re.error as error:
            raise BadTemplate(f"the pattern of {parameter.name!r}: {error}") from error
    for value in (*parameter.options, *_given(parameter.default)):
        problem = problem_of(parameter, value)
        if problem is not None:
            raise BadTemplate(f"the parameter {parameter.name!r} does not take its own {problem}")


def _given(default: Value | None) -> tuple[Value, ...]:
    return () if default is None else (default,)


def problem_of(parameter: Parameter, value: object) -> str | None:
    """Why a parameter does not take a value, if it does not."""
    # `True` is an int to Python, and to nobody else.
    if type(value) is not _KINDS[parameter.type]:
        return f"{value!r:.80}: it is no {parameter.type}"
    if isinstance(value, str):
        if len(value) > MAX_VALUE or "\0" in value or not _is_text(value):
            return f"{value!r:.80}: it is too long, or no text"
        if parameter.pattern and not re.fullmatch(parameter.pattern, value):
            return f"{value!r:.80}: it does not match {parameter.pattern!r}"
    if parameter.options and value not in parameter.options:
        return f"{value!r:.80}: the options are {', '.join(map(repr, parameter.options))}"
    if isinstance(value, bool):
        return None
    size = value if isinstance(value, int) else len(value)
    if parameter.minimum is not None and size < parameter.minimum:
        return f"{value!r:.80}: the least is {parameter.minimum}"
    if parameter.maximum is not None and size > parameter.maximum:
        return f"{value!r:.80}: the most is {parameter.maximum}"
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def fill(parameters: Iterable[Parameter], given: Mapping[str, object]) -> dict[str, Value]:
    """The value of every parameter: what was given, or else its default.

    Raises:
        InvalidRequest: One is unknown, missing or not what the template takes; `field` names it.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if name not in known:
            names = ", ".join(known) or "none"
            raise InvalidRequest(
                f"there is no parameter {name!r:.80}; the parameters are: {names}",
                field=f"parameters.{name:.80}",
            )
    filled: dict[str, Value] = {}
    for name, parameter in known.items():
        value = given.get(name, parameter.default)
        if value is None:
            raise InvalidRequest(f"the parameter {name!r} is missing", field=f"parameters.{name}")
        problem = problem_of(parameter, value)
        if problem is not None:
            raise InvalidRequest(
                f"the parameter {name!r} does not take {problem}", field=f"parameters.{name}"
            )
        assert isinstance(value, str | int | bool)  # it has no problem
        filled[name] = value
    return filled


def variables(source: Source, values: Mapping[str, Value]) -> dict[str, str]:
    """What commands in the workspace see: the environment, and each parameter as `PARAM_…`."""
    given = {f"PARAM_{name.upper()}": _shown(value) for name, value in values.items()}
    return {**source.environment, **given}


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def rank(summary: TemplateSummary, query: str) -> int | None:
    """How well a template matches, 0 is best; None: not at all. Every word has to be somewhere."""
    wanted = query.casefold().split()
    names = f"{summary.id} {summary.name}".casefold()
    text = f"{names} {summary.description}".casefold()
    if not all(word in text for word in wanted):
        return None
    if " ".join(wanted) in (summary.id, summary.name.casefold()):
        return 0
    if all(any(part.startswith(word) for part in names.split()) for word in wanted):
        return 1
    return 2 if all(word in names for word in wanted) else 3


def page_of(summaries: Iterable[TemplateSummary], query: str, page: int) -> TemplatePage:
    """One page of what matches: the best first, of equals the most used, then by id.

    Args:
        summaries: All templates.
        query: Words; none match everything.
        page: From 1; beyond the end it is empty.
    """
    found = [(rank(one, query), one) for one in summaries]
    matching = sorted(
        ((place, one) for place, one in found if place is not None),
        key=lambda item: (item[0], -item[1].uses, item[1].id),
    )
    start = (page - 1) * PAGE
    return TemplatePage(
        tuple(one for _, one in matching[start : start + PAGE]),
        page,
        max(1, -(-len(matching) // PAGE)),
        len(matching),
    )


class Templates:
    """The templates of this deployment. Its methods block on the file system."""

    def __init__(self, folder: Path | None = None) -> None:
        """Look into a folder.

        Args:
            folder: The administrator's; one with the id of a built-in template replaces it.
        """
        self._folders = (BUILT_IN,) if folder is None else (BUILT_IN, folder)
        self._told: set[tuple[str, str]] = set()

    def summaries(self, uses: Mapping[str, int]) -> list[TemplateSummary]:
        """All that can be used; of the others the log tells once."""
        found: list[TemplateSummary] = []
        for template_id, path in self._found().items():
            try:
                found.append(_summary(template_id, _read(path), uses.get(template_id, 0)))
            except BadTemplate as error:
                if (template_id, str(error)) not in self._told:
                    self._told.add((template_id, str(error)))
                    log.warning("template.skipped", template=template_id, error=str(error)[:500])
        return found

    def source(self, template_id: str) -> Source:
        """One template as it was written.

        Raises:
            NotFound: There is none of that id, or it is broken.
        """
        path = self._found().get(template_id)
        if path is None:
            raise NotFound(f"there is no template {template_id!r:.80}")
        try:
            return _read(path)
        except BadTemplate as error:
            raise NotFound(f"the template {template_id!r} is broken: {error}"[:1000]) from error

    def template(self, template_id: str, uses: Mapping[str, int]) -> Template:
        """One template, with what it asks.

        Raises:
            NotFound: There is none of that id, or it is broken.
        """
        source = self.source(template_id)
        return Template(
            **msgspec.structs.asdict(_summary(template_id, source, uses.get(template_id, 0))),
            parameters=source.parameters,
            environment=source.environment,
            has_setup=source.setup is not None,
        )

    def _found(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in self._folders:
            try:
                below = sorted(folder.iterdir())
            except OSError as error:
                log.warning("templates.unreadable", folder=str(folder), error=error.strerror)
                continue
            for path in below[:MAX_TEMPLATES]:
                if _ID.fullmatch(path.name) and (path / FILE).is_file():
                    found[path.name] = path / FILE
        return found


def _summary(template_id: str, source: Source, uses: int) -> TemplateSummary:
    return TemplateSummary(
        template_id, source.name, source.description, source.icon, source.driver, uses
    )


def _read(path: Path) -> Source:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadTemplate(f"it cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise BadTemplate(f"it has more than {MAX_BYTES} bytes")
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        raise BadTemplate("it is not UTF-8") from error
