"""`steersman up`: everything on this machine, under one supervisor."""

import asyncio
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, cast

import click

from steersman import services
from steersman.datadir import VARIABLE, InUse, data_dir
from steersman.logs import Format, Level
from steersman.report import Report
from steersman.start import DEFAULT_PORT, Options, run

_MAX_REPLICAS: Final = 64
_FILES: Final = 65_536


def _parse_replicas(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    replicas: dict[str, int] = {}
    for value in values:
        kind, _, count = value.partition("=")
        if kind not in services.STAGES:
            known = ", ".join(services.STAGES)
            raise click.BadParameter(f"{kind!r} is not a service (one of: {known})")
        lowest = 1 if kind in {"store", "gateway"} else 0
        if not count.isdecimal() or not lowest <= int(count) <= _MAX_REPLICAS:
            raise click.BadParameter(f"{value!r}: a number from {lowest} to {_MAX_REPLICAS}")
        replicas[kind] = int(count)
    return replicas


def _allow_many_files() -> None:
    """Every viewer of a chat is a socket; the services inherit this limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _missing_services() -> list[str]:
    return [
        f"steersman_{kind}" for kind in services.STAGES if find_spec(f"steersman_{kind}") is None
    ]


_EPILOG: Final = """\b
Environment:
  STEERSMAN_DATABASE_URL   a PostgreSQL of your own; then none is started here
  STEERSMAN_NATS_URL       a NATS with JetStream of your own; then none is started here
  STEERSMAN_PUBLIC_URL     how browsers reach the gateway, if not as printed
  STEERSMAN_SECRET_KEY     what stored provider keys are encrypted with (32 bytes, base64)
  ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, GOOGLE_API_KEY
                           providers to offer from the start
  AWS_REGION with AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
                           Claude on Amazon Bedrock
  GOOGLE_APPLICATION_CREDENTIALS (GOOGLE_CLOUD_PROJECT, GOOGLE_CLOUD_LOCATION)
                           Gemini and Claude on Vertex AI, by the key of a service account
  STEERSMAN_<SERVICE>_*    settings of one service, such as STEERSMAN_STORE_LOG_LEVEL

\b
Exit status:
  0  stopped as asked      1  the start failed
  2  bad usage             3  another `up` holds the data directory
"""


@click.command(epilog=_EPILOG, context_settings={"show_default": True, "max_content_width": 100})
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=VARIABLE,
    show_envvar=True,
    show_default="~/.local/share/steersman; /var/lib/steersman as root",
    help="Where everything is kept.",
)
@click.option("--host", default="127.0.0.1", help="Where the gateway listens.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    help="The gateway's port. If it is taken and was not asked for, the next free one.",
)
@click.option("--no-local-model", is_flag=True, help="Do without the small model on this machine.")
@click.option(
    "--replicas",
    multiple=True,
    metavar="SERVICE=N",
    callback=_parse_replicas,
    help="Run N processes of a service; may be repeated. Each gateway has a port of its own.",
)
@click.option(
    "--log",
    "log_format",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    help="The form of the log.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="What to leave out of it.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write addresses, token and process ids there as JSON, once everything is ready.",
)
@click.pass_context
def up(
    context: click.Context,
    /,
    data: Path | None,
    host: str,
    port: int,
    *,
    no_local_model: bool,
    replicas: Mapping[str, int],
    log_format: str,
    log_level: str,
    ready_file: Path | None,
) -> None:
    """Start everything on this machine and keep it running.

    PostgreSQL, NATS, a small language model and the five services run as processes of their own,
    on this machine alone unless --host says otherwise. When all is ready, the address is printed
    with a sign-in link that works once and an API token. Ctrl-C stops everything; the data stays.
    """
    given = context.get_parameter_source("port")
    options = Options(
        data=data_dir(data),
        host=host,
        port=port,
        port_is_a_wish=given == click.core.ParameterSource.DEFAULT,
        local_model=not no_local_model,
        log_level=cast("Level", log_level),
        replicas=replicas,
        ready_file=ready_file.absolute() if ready_file else None,
        database_url=os.environ.get("STEERSMAN_DATABASE_URL") or None,
        nats_url=os.environ.get("STEERSMAN_NATS_URL") or None,
    )
    if missing := _missing_services():
        raise click.ClickException(f"not installed: {', '.join(missing)}")
    _allow_many_files()
    report = Report(cast("Format", log_format), options.log_level)
    try:
        status = asyncio.run(run(options, report))
    except InUse as error:
        report.close()
        click.echo(str(error), err=True)
        status = 3
    except OSError as error:
        report.close()
        raise click.ClickException(str(error)) from error
    report.close()
    sys.exit(status)
