"""Fills the settings of a plugin: from the environment, then from what an administrator stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard, get_args, get_type_hints

import msgspec

from steersman_contracts.rpc.tools import SettingReport, SettingSource
from steersman_contracts.secret import Secret


class BadPluginSettings(ValueError):
    """A setting is missing or not acceptable; the text names it, and never shows a value."""

    def __init__(self, message: str, reports: tuple[SettingReport, ...] = ()) -> None:
        super().__init__(message)
        self.reports = reports


class Book(Protocol):
    """Where an administrator's settings and secrets are."""

    async def settings(self, plugin: str) -> Mapping[str, Any]:
        """Read the stored settings."""
        ...

    async def secret(self, plugin: str, name: str) -> str | None:
        """Read a stored secret."""
        ...


def variable(plugin: str, field: str) -> str:
    """The environment variable of a setting or a secret."""
    return f"STEERSMAN_PLUGIN_{re.sub('[^A-Za-z0-9]', '_', plugin)}_{field}".upper()


async def fill(
    kind: Any, plugin: str, environment: Mapping[str, str], book: Book
) -> tuple[msgspec.Struct, tuple[SettingReport, ...]]:
    """Make the settings of a plugin.

    A field of type `Secret` (or `Secret | None`) is never read from the stored settings, only from
    the environment and from the stored secrets.

    Raises:
        BadPluginSettings: `kind` is no Struct; or a field is missing or has a bad value.
    """
    if not _is_struct(kind):
        raise BadPluginSettings(f"settings() gave {kind!r:.100}, which is not a msgspec Struct")
    try:
        hints = get_type_hints(kind, include_extras=True)
    except (NameError, TypeError) as error:
        raise BadPluginSettings(f"the types of {kind.__name__} cannot be read: {error}") from error
    stored = await book.settings(plugin)
    values: dict[str, Any] = {}
    reports: list[SettingReport] = []
    problems: list[str] = []
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        secret = is_secret(hint)
        found, source = await _find(plugin, field.name, secret, environment, stored, book)
        if source == "default" and field.required:
            source = "missing"
            problems.append(_missing(plugin, field.name, secret=secret))
        reports.append(SettingReport(field.name, source, secret, _description(hint)))
        if source in ("default", "missing"):
            continue
        try:
            # Text of the environment may stand for numbers; what was stored is JSON already.
            values[field.name] = msgspec.convert(
                found, hint, strict=source == "store", dec_hook=_decode
            )
        except msgspec.ValidationError as error:
            problems.append(f"the setting {field.name!r} ({source}): {error}")
    unknown = sorted(set(stored) - set(hints))
    problems += [f"there is no setting {name!r}" for name in unknown]
    if problems:
        raise BadPluginSettings("; ".join(problems), tuple(reports))
    try:
        return kind(**values), tuple(reports)
    except (TypeError, ValueError) as error:  # from its __post_init__
        raise BadPluginSettings(f"the settings: {error}", tuple(reports)) from error


def is_secret(hint: Any) -> bool:
    """Whether a field of this type holds a secret."""
    return hint is Secret or any(is_secret(inner) for inner in get_args(hint))


def _is_struct(kind: Any) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


async def _find(
    plugin: str,
    name: str,
    secret: bool,  # noqa: FBT001, RUF100  # positional beside its siblings
    environment: Mapping[str, str],
    stored: Mapping[str, Any],
    book: Book,
) -> tuple[Any, SettingSource]:
    if (given := environment.get(variable(plugin, name))) is not None:
        return given, "environment"
    if secret:
        kept = await book.secret(plugin, name)
        return (None, "default") if kept is None else (kept, "store")
    return (stored[name], "store") if name in stored else (None, "default")


def _missing(plugin: str, name: str, *, secret: bool) -> str:
    kind = "secrets" if secret else "settings"
    return (
        f"the setting {name!r} is missing: set {variable(plugin, name)}, or store it with "
        f"/api/v1/plugins/{plugin}/{kind}"
    )


def _description(hint: Any) -> str:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, msgspec.Meta) and extra.description:
            return extra.description
    return ""


def _decode(kind: type, value: Any) -> Any:
    if kind is not Secret:
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        raise ValueError("Expected `str`")  # noqa: TRY004  # msgspec adds the place to this one
    return Secret(value)
