"""One start of everything: the parts, the services, the first admin, in the order of need."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from steersman import services
from steersman.datadir import DataDir, Held, held, write_json
from steersman.embedded import model, nats, postgres
from steersman.embedded.socket_link import remove_link
from steersman.logs import Level
from steersman.ports import free_port, listen
from steersman.private import write_private
from steersman.probe import problem_at
from steersman.processes import Child, Ended, Supervisor
from steersman.report import Facts, Report
from steersman.services import Service, Wiring

if TYPE_CHECKING:
    from steersman.bootstrap import Bootstrap

DEFAULT_PORT: Final = 8700
_READY_TIMEOUT_S: Final = 60.0
_SHOWN_LINES: Final = 15


class StartFailed(RuntimeError):
    """The start failed; the text says at what, and `lines` are the last words of the culprit."""

    def __init__(self, message: str, name: str = "supervisor", lines: list[str] | None = None):
        super().__init__(message)
        self.name = name
        self.lines = lines or []


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    data: DataDir
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    port_is_a_wish: bool = True
    local_model: bool = True
    log_level: Level = "info"
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    ready_file: Path | None = None
    database_url: str | None = None
    nats_url: str | None = None


class Running:
    """One start: what has been started so far."""

    def __init__(self, options: Options, supervisor: Supervisor, report: Report) -> None:
        self.options = options
        self.supervisor = supervisor
        self.report = report
        self.services: list[tuple[Service, Child]] = []
        self.wiring: Wiring | None = None
        self.entry: Bootstrap | None = None

    async def start(self, lock: Held) -> None:
        """Start everything, in the order in which it depends on each other."""
        gateway = _listen(self.options)
        url = services.url(*gateway.getsockname()[:2])
        if self.options.port_is_a_wish and gateway.getsockname()[1] != self.options.port:
            self.report.event("warning", "port.taken", f"port {self.options.port} is taken: {url}")
        lock.announce(url)
        key = self.options.data.password("model-key")
        model_port = free_port() if self._wants_model() else None
        # The model takes about as long as all the rest: nothing waits for it until the end.
        model_ready = asyncio.create_task(self._model(model_port, key))
        try:
            database_url, nats_plan = await asyncio.gather(self._postgres(), self._nats())
            self.wiring = _wiring(self.options, database_url, nats_plan, url, model_port, key)
            await self._services(gateway)
            self.entry = await self._bootstrap(nats_plan)
            await model_ready
        finally:
            model_ready.cancel()
        self.supervisor.keep_running()
        self._announce(url)

    def _wants_model(self) -> bool:
        if not self.options.local_model:
            return False
        if not model.is_installed():
            text = "the local model is not installed, going on without it (see: steersman doctor)"
            self.report.event("warning", "model.missing", text)
            return False
        return True

    async def _postgres(self) -> str:
        if self.options.database_url is not None:
            return self.options.database_url
        since, data = time.monotonic(), self.options.data
        first = not (data.postgres / "data").exists()
        plan = await asyncio.to_thread(
            postgres.prepare, data.postgres, password_file=data.postgres_password
        )
        child = self.supervisor.start(plan.command, stage=services.PARTS_STAGE)
        await self._until(child, lambda: postgres.is_ready(plan.data, child.pid))
        self.report.ready("postgres", since, ", with a new database" if first else "")
        return plan.dsn

    async def _nats(self) -> nats.NatsPlan | None:
        if self.options.nats_url is not None:
            return None
        since, data = time.monotonic(), self.options.data
        passwords = {user: data.password(f"nats-{user}") for user in nats.USERS}
        plan = nats.prepare(
            data.nats,
            port=free_port(),
            passwords=passwords,
            issuer=nats.issuer_of(data.password(services.DEPUTY_SECRET)),
        )
        child = self.supervisor.start(plan.command, stage=services.PARTS_STAGE)
        await self._until(child, lambda: nats.is_ready(data.nats, child.pid))
        # For tool hosts that people start beside ours, such as examples/tool-host-node.
        write_private(data.secrets / "toolhost-nats-url", plan.url("toolhost") + "\n")
        self.report.ready("nats", since)
        return plan

    async def _model(self, port: int | None, key: str) -> None:
        if port is None:
            return
        since = time.monotonic()
        command = model.command(port, key, services.inherited(None, os.environ))
        child = self.supervisor.start(command, stage=services.PARTS_STAGE)
        await self._answers(child, ("127.0.0.1", port), "/health")
        self.report.ready("model", since, f" ({model.ALIAS})")

    async def _services(self, gateway: socket.socket) -> None:
        wiring = self.wiring
        if wiring is None:
            raise RuntimeError("the services come after the parts")
        for kind, stage in services.STAGES.items():
            count = self.options.replicas.get(kind, 1)
            sockets = (
                services.listeners(self.options.host, gateway, count)
                if kind == "gateway"
                else [listen("127.0.0.1", 0) for _ in range(count)]
            )
            for name, listener in zip(services.instances(kind, count), sockets, strict=True):
                one = services.service(kind, name, listener, wiring)
                child = self.supervisor.start(one.command, stage=stage)
                self.services.append((one, child))
        since = time.monotonic()
        await asyncio.gather(*(self._ready(one, child, since) for one, child in self.services))

    async def _ready(self, one: Service, child: Child, since: float) -> None:
        await self._answers(child, one.address, "/readyz")
        self.report.ready(one.name, since)

    async def _answers(self, child: Child, address: tuple[str, int], path: str) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while (problem := await problem_at(address, path)) is not None:
            if time.monotonic() > deadline:
                raise _failure(child, f"{child.name} is not ready: {problem}")
            await self._alive(child, child.sleep(0.03))

    async def _bootstrap(self, plan: nats.NatsPlan | None) -> "Bootstrap":
        # Imported here: it takes a while, and the services use that while to start.
        from steersman.bootstrap import BootstrapFailed, bootstrap

        nats_url = plan.url("cli") if plan else self.options.nats_url or ""
        try:
            return await bootstrap(
                os.environ.get("STEERSMAN_CLI_NATS_URL", nats_url), self.options.data
            )
        except BootstrapFailed as error:
            store = next(child for one, child in self.services if one.service == "store")
            raise _failure(store, str(error)) from error

    async def _until(self, child: Child, check: Callable[[], bool]) -> None:
        await self._alive(child, child.until(check, _READY_TIMEOUT_S))

    async def _alive(self, child: Child, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Ended as error:
            raise _failure(child, str(error)) from error
        except TimeoutError as error:
            raise _failure(child, f"{child.name} was not ready in time") from error

    def _announce(self, url: str) -> None:
        if self.entry is None:
            raise RuntimeError("there is nothing to announce yet")
        self._write_files(url)
        self.report.on_start = lambda: self._write_files(url)  # the pids change with a restart
        self.report.summary(
            Facts(
                url=url,
                sign_in_url=_sign_in_url(url, self.entry.sign_in_code),
                token=self.entry.token,
                default_model=self.entry.default_model,
                data=self.options.data.root,
            )
        )

    def _write_files(self, url: str) -> None:
        write_json(self.options.data.endpoint, {"url": url, "pid": os.getpid()})
        if self.options.ready_file is not None:
            write_json(self.options.ready_file, self._ready_facts(url))

    def _ready_facts(self, url: str) -> dict[str, object]:
        if self.wiring is None or self.entry is None:
            raise RuntimeError("there is nothing to announce yet")
        ours = [child for _, child in self.services]
        return {
            "url": url,
            "token": self.entry.token,
            "sign_in_url": _sign_in_url(url, self.entry.sign_in_code),
            "default_model": self.entry.default_model,
            "pid": os.getpid(),
            "services": [
                {
                    "name": one.name,
                    "service": one.service,
                    "pid": child.pid,
                    "starts": child.starts,
                    "url": services.url(*one.address),
                    "health_url": services.url(*one.address) + "/readyz",
                }
                for one, child in self.services
            ],
            "parts": [
                {"name": child.name, "pid": child.pid, "starts": child.starts}
                for child in self.supervisor.children
                if child not in ours
            ],
            "nats_url": self.wiring.nats_urls["store"],
            "nats_urls": dict(self.wiring.nats_urls),
            "database_url": self.wiring.database_url,
        }


def _sign_in_url(url: str, code: str) -> str:
    return f"{url}/sign-in/{code}"


def _failure(child: Child, message: str) -> StartFailed:
    return StartFailed(message, child.name, list(child.last_lines)[-_SHOWN_LINES:])


def _wiring(
    options: Options,
    database_url: str,
    plan: nats.NatsPlan | None,
    url: str,
    model_port: int | None,
    model_key: str,
) -> Wiring:
    return Wiring(
        data=options.data,
        nats_urls={
            kind: plan.url(kind) if plan else options.nats_url or "" for kind in services.STAGES
        },
        nats_system_url=plan.url(nats.SYSTEM_USER) if plan else None,
        database_url=database_url,
        secret_key=os.environ.get("STEERSMAN_SECRET_KEY") or options.data.secret_key(),
        public_url=os.environ.get("STEERSMAN_PUBLIC_URL") or url,
        log_level=options.log_level,
        local_model_url=f"http://127.0.0.1:{model_port}/v1" if model_port else None,
        local_model_key=model_key if model_port else None,
    )


def _listen(options: Options) -> socket.socket:
    try:
        return listen(options.host, options.port)
    except OSError as error:
        if not options.port_is_a_wish:
            where = f"{options.host}:{options.port}"
            raise StartFailed(f"cannot listen on {where}: {error.strerror}") from error
    for port in range(options.port + 1, options.port + 100):
        with suppress(OSError):
            return listen(options.host, port)
    try:
        return listen(options.host, 0)
    except OSError as error:
        raise StartFailed(f"cannot listen on {options.host!r}: {error.strerror}") from error


async def run(options: Options, report: Report) -> int:
    """Run until told to end. Returns the exit status."""
    options.data.create()
    with held(options.data) as lock:
        _forget_addresses(options)
        try:
            async with Supervisor(report) as supervisor:
                return await _supervise(options, report, supervisor, lock)
        finally:
            report.on_start = None
            _forget_addresses(options)
            remove_link(options.data.postgres)


def _forget_addresses(options: Options) -> None:
    options.data.endpoint.unlink(missing_ok=True)
    if options.ready_file is not None:
        options.ready_file.unlink(missing_ok=True)


async def _supervise(options: Options, report: Report, supervisor: Supervisor, lock: Held) -> int:
    told = _on_signals(report, supervisor)
    starting = asyncio.create_task(Running(options, supervisor, report).start(lock))
    try:
        await asyncio.wait([starting, told, supervisor.failed], return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            return 0
        if supervisor.failed.done():
            # Whoever waited for it says more; nobody may have waited for it any more.
            await asyncio.wait([starting], timeout=0.2)
            if not starting.done():
                ended = supervisor.failed.result()
                raise _failure(ended.child, str(ended))
        await starting
        await told
    except StartFailed as error:
        report.failure(str(error), error.name, error.lines)
        return 1
    except (postgres.PostgresUnusable, nats.NatsUnusable, model.ModelUnusable) as error:
        report.failure(str(error), "supervisor", [])
        return 1
    finally:
        starting.cancel()
        await asyncio.wait([starting])
    return 0


def _on_signals(report: Report, supervisor: Supervisor) -> "asyncio.Future[None]":
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if told.done():
            supervisor.kill()
            os._exit(130)
        told.set_result(None)
        report.event("info", "steersman.stopping", "stopping (once more kills everything at once)")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return told
