"""Each test is a process of its own: logging is set up once per process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec

SETUP = """
import logging, structlog
from steersman_runtime.logging import configure_logging
from steersman_runtime.settings import Secret
configure_logging({arguments})
log = structlog.stdlib.get_logger()
"""


def run(code: str, arguments: str = "'demo', instance='d-1'") -> str:
    script = SETUP.replace("{arguments}", arguments) + code
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


def entries(output: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in output.splitlines()]


def test_every_line_is_one_json_object_that_says_who_wrote_it() -> None:
    output = run(
        "structlog.contextvars.bind_contextvars(chat_id='c')\n"
        "log.info('turn.finished', steps=2, text='two\\nlines', odd=object)\n"
        "log.debug('not.shown')\n"
        "log.bind(tool='t').warning('tool.slow', service='other')\n"
    )

    first, second = entries(output)
    assert (
        first.items()
        >= {
            "event": "turn.finished",
            "level": "info",
            "service": "demo",
            "instance": "d-1",
            "chat_id": "c",
            "steps": 2,
            "text": "two\nlines",
            "odd": "<class 'object'>",
        }.items()
    )
    assert first["timestamp"].endswith("Z")
    assert second.items() >= {"level": "warning", "tool": "t", "service": "other"}.items()


def test_what_is_called_like_a_secret_is_masked_also_from_other_libraries() -> None:
    output = run(
        "log.info('a', token='hunter2', password='hunter2', nats_url='hunter2', fine='yes')\n"
        "log.info('b', settings=[Secret('hunter2')], url=Secret('hunter2'))\n"
        "logging.getLogger('x').warning('%s', 'plain', extra={'api_key': 'hunter2'})\n"
    )

    first, _, _ = entries(output)
    assert first.items() >= {"token": "***", "password": "***", "nats_url": "***"}.items()
    assert first["fine"] == "yes"
    assert "hunter2" not in output


def test_the_standard_library_logs_in_the_same_form_from_warning_on() -> None:
    output = run(
        "logging.getLogger('nats').info('quiet')\n"
        "try:\n"
        "    1 / 0\n"
        "except ZeroDivisionError:\n"
        "    logging.getLogger('asyncio').exception('boom %d', 1)\n"
    )

    (entry,) = entries(output)
    assert entry.items() >= {"event": "boom 1", "level": "error", "service": "demo"}.items()
    assert "ZeroDivisionError: division by zero" in entry["exception"]


def test_the_level_is_a_setting() -> None:
    code = "for level in ('debug', 'info', 'warning', 'error'):\n    getattr(log, level)('x')\n"

    levels = [entry["level"] for entry in entries(run(code, "'demo', level='warning'"))]

    assert levels == ["warning", "error"]


FAILING = (
    "def work(arguments):\n"
    "    raise LookupError('no such thing')\n"
    "try:\n"
    "    work({'text': 'hunter2'})\n"
    "except LookupError:\n"
    "    log.exception('work.failed')\n"
)


def test_a_traceback_shows_where_but_not_with_which_values() -> None:
    readable = run(FAILING, "'demo', log_format='console'")
    (entry,) = entries(run(FAILING))

    for text in (readable, entry["exception"]):
        assert "LookupError: no such thing" in text
        assert "in work" in text
        assert "hunter2" not in text
