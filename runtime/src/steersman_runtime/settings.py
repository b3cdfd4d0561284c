"""Settings: one frozen struct per service, read once from the environment and a TOML file.

A field `nats_url` of the service `store` is looked up as `STEERSMAN_STORE_NATS_URL`, then
`STEERSMAN_NATS_URL`; each of them also with the suffix `_FILE`, which names a file that holds the
value (for secrets). Then in the TOML file that `STEERSMAN_CONFIG` names, in the table of the
service and in the table `shared`. No other module reads the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import msgspec

from steersman_contracts.errors import SteersmanError
from steersman_contracts.secret import Secret as Secret


class BadSettings(SteersmanError):
    """A setting is missing or not acceptable; the message names the variable."""

    code = "bad_settings"


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service needs to know."""

    nats_url: Secret
    """`nats://user:password@host:port`, several separated by commas."""
    listen: str = "127.0.0.1:0"
    """Where HTTP is served: `host:port`, or `fd:N` for a listening socket that was inherited."""
    instance: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,40}$")] = ""
    """A name for this process in logs and metrics; empty takes service and pid."""
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    shutdown_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 8.0
    """Seconds that running work gets to end or be handed over; less than its supervisor waits."""


S = TypeVar("S", bound=msgspec.Struct)


def load_settings(kind: type[S], service: str, environment: Mapping[str, str] | None = None) -> S:
    """Read the settings of a service.

    Args:
        kind: The struct to fill.
        service: `store`, `gateway` and so on: the middle of the variables and the TOML table.
        environment: For tests; None is the process environment.

    Raises:
        BadSettings: A variable is missing, has a bad value, or names a file that cannot be read.
    """
    env = os.environ if environment is None else environment
    tables = _toml_tables(env, service)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        found = _lookup(env, tables, service, field.name)
        if found is not None:
            values[field.name] = _convert(found, field, kind, service)
        elif field.required:
            raise BadSettings(f"{_variables(service, field.name)[-1]} is not set", field=field.name)
    return kind(**values)


def _variables(service: str, name: str) -> tuple[str, str]:
    return f"STEERSMAN_{service.upper()}_{name.upper()}", f"STEERSMAN_{name.upper()}"


def _lookup(
    env: Mapping[str, str], tables: list[Mapping[str, Any]], service: str, name: str
) -> Any:
    for variable in _variables(service, name):
        if variable in env:
            return env[variable]
        if f"{variable}_FILE" in env:
            return _read(f"{variable}_FILE", env[f"{variable}_FILE"])
    for table in tables:
        if name in table:
            return table[name]
    return None


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadSettings(f"{variable}: cannot read {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{variable}: {path!r} is not UTF-8 text") from error


def _toml_tables(env: Mapping[str, str], service: str) -> list[Mapping[str, Any]]:
    path = env.get("STEERSMAN_CONFIG")
    if not path:
        return []
    try:
        document = tomllib.loads(_read("STEERSMAN_CONFIG", path))
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"STEERSMAN_CONFIG: {path!r} is not TOML: {error}") from error
    tables = {name: document.get(name, {}) for name in (service, "shared")}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BadSettings(f"STEERSMAN_CONFIG: {name!r} is not a table in {path!r}")
    return list(tables.values())


def _convert(value: Any, field: msgspec.structs.FieldInfo, kind: type, service: str) -> Any:
    hint = get_type_hints(kind, include_extras=True)[field.name]
    try:
        return msgspec.convert(value, hint, strict=False, dec_hook=_secret)
    except msgspec.ValidationError as error:
        variable = _variables(service, field.name)[-1]
        raise BadSettings(f"{variable}: {error}", field=field.name) from error


def _secret(kind: type, value: Any) -> Any:
    if kind is not Secret:
        raise NotImplementedError(kind)
    if not isinstance(value, str):
        raise ValueError("Expected `str`")  # noqa: TRY004  # msgspec adds the place to this one
    return Secret(value)
