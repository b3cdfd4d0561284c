"""compose.yaml and the Dockerfile, kept honest without a container engine.

Every command, variable, port and health check is read from the files and run as a plain process;
only host names, ports and the places of secrets are mapped to this machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import yaml
from support.databases import url_of

from steersman.embedded.nats import binary
from steersman.embedded.postgres import PostgresServer
from steersman.ports import free_port
from steersman_chatloop.settings import Settings as ChatloopSettings
from steersman_contracts.errors import Unavailable
from steersman_contracts.subjects import inbox
from steersman_contracts.workspaces import WorkspaceId
from steersman_desktop.settings import Settings as DesktopSettings
from steersman_gateway.settings import Settings as GatewaySettings
from steersman_plugin_web.settings import PREFIX as WEB_PREFIX
from steersman_plugin_web.settings import Settings as WebSettings
from steersman_runtime.nats_client import NatsClient, close, connect
from steersman_store.settings import Settings as StoreSettings
from steersman_tools.deputy_access import DeputyAccess, Keys, deputy_url
from steersman_tools.engine import PROGRAMS
from steersman_tools.settings import Settings as ToolsSettings

ROOT = Path(__file__).parents[2]
_databases = itertools.count()
SETTINGS: dict[str, type[msgspec.Struct]] = {
    "store": StoreSettings,
    "chatloop": ChatloopSettings,
    "tools": ToolsSettings,
    "desktop": DesktopSettings,
    "gateway": GatewaySettings,
}


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


class Target:
    """One stage of the Dockerfile, as far as it matters at run time."""

    def __init__(self, name: str, above: Target | None = None) -> None:
        self.name = name
        self.environment: dict[str, str] = {**above.environment} if above else {}
        self.command: list[str] = above.command if above else []
        self.health: list[str] = above.health if above else []
        self.user = above.user if above else "root"
        self.port = above.port if above else 0
        self.copied: list[str] = []
        self.images: list[str] = []
        """From which files are taken."""


def targets() -> dict[str, Target]:
    """The stages of the Dockerfile by name."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, Target] = {}
    stage = Target("")
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        match word:
            case "FROM":
                above, name = rest.split(" AS ")
                stage = found.setdefault(name, Target(name, found.get(above)))
            case "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in rest.split())
            case "CMD":
                stage.command = json.loads(rest)
            case "HEALTHCHECK":
                stage.health = json.loads(rest.split("CMD ", 1)[1])
            case "USER":
                stage.user = rest
            case "EXPOSE":
                stage.port = int(rest)
            case "COPY" if rest.startswith("--from="):
                stage.images.append(rest.split()[0].removeprefix("--from="))
            case "COPY":
                stage.copied.append(rest.split()[0])
            case _:
                pass
    return found


def test_images_are_pinned_and_nothing_runs_as_root() -> None:
    for name, service in compose()["services"].items():
        if "image" in service:
            assert re.search(r":\d+\.\d+", service["image"]), name
    from_lines = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", from_lines[0])
    assert set(from_lines[1:]) == {"base", "tools"}
    for image in [one for target in targets().values() for one in target.images]:
        assert re.search(r":\d+\.\d+\.\d+", image)
    for name in SETTINGS:
        assert targets()[name].user == "steersman"


def test_every_service_has_its_target_and_every_file_exists() -> None:
    services = compose()["services"]
    assert {name for name in services if "build" in services[name]} == set(SETTINGS)
    for name in SETTINGS:
        target = targets()[services[name]["build"]["target"]]
        assert target.command == ["python", "-m", f"steersman_{name}"]
        for path in target.copied:
            assert (ROOT / path).exists(), path
        assert target.environment["STEERSMAN_LISTEN"].endswith(f":{target.port}")
        assert f":{target.port}/" in target.health[-1]
    published = services["gateway"]["ports"][0].rsplit(":", 1)[1]
    assert int(published) == targets()["gateway"].port


def test_every_variable_is_a_setting_and_every_secret_is_made() -> None:
    document = compose()
    for name, kind in SETTINGS.items():
        fields = {field.name for field in msgspec.structs.fields(kind)}
        service = document["services"][name]
        variables = {*service["environment"], *targets()[name].environment}
        for variable in variables:
            if variable.startswith(WEB_PREFIX):
                assert variable.removeprefix(WEB_PREFIX).lower() in WebSettings.__dataclass_fields__
            elif variable.startswith("STEERSMAN_"):
                field = variable.removeprefix("STEERSMAN_").removesuffix("_FILE").lower()
                assert field in fields, variable
        for variable, value in service["environment"].items():
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
        assert set(service["secrets"]) <= set(document["secrets"])


def test_what_has_to_survive_a_new_container_lies_in_a_volume() -> None:
    document = compose()
    for name, variable in (("tools", "WORKSPACES_DIR"), ("desktop", "RECORDINGS_DIR")):
        place = targets()[name].environment[f"STEERSMAN_{variable}"]
        (volume,) = document["services"][name]["volumes"]
        assert volume.split(":", 1)[1] == place
        assert volume.split(":", 1)[0] in document["volumes"]
        assert f"-m 0700 {place}\n" in (ROOT / "Dockerfile").read_text()


def test_the_nats_configuration_is_rendered_from_the_permissions() -> None:
    script = ROOT / "deploy" / "render_nats.py"
    code = "import runpy, sys; sys.stdout.write(runpy.run_path(sys.argv[1])['render']())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(script)], capture_output=True, text=True, check=True
    )
    assert (ROOT / "deploy" / "nats.conf").read_text() == done.stdout


@pytest.fixture
def secrets_made(tmp_path: Path) -> Path:
    """What deploy/make_secrets.py makes with nothing but Python, in a folder of the test's own."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "contracts").symlink_to(ROOT / "contracts")
    folder = tmp_path / "deploy" / "secrets"
    command = [sys.executable, "-I", "-S", str(tmp_path / "deploy" / "make_secrets.py")]
    subprocess.run(command, check=True)
    first = {p.name: p.read_text() for p in folder.iterdir()}
    subprocess.run(command, check=True)
    assert first == {p.name: p.read_text() for p in folder.iterdir()}
    return folder


@dataclass(frozen=True)
class DeployedNats:
    """Where NATS is."""

    port: int
    monitor: str


@pytest.fixture
def deployed_nats(secrets_made: Path, tmp_path: Path) -> Generator[DeployedNats]:
    """NATS with the deployment's own configuration, and files where compose puts them."""
    port, monitor = free_port(), free_port()
    document = compose()
    service = document["services"]["nats"]
    root = tmp_path / "root"
    for secret in service["secrets"]:
        target = root / "run" / "secrets" / secret
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / document["secrets"][secret]["file"], target)
    (mounted,) = service["configs"]
    text = (ROOT / document["configs"][mounted["source"]]["file"]).read_text()
    text = text.replace('"/data"', f'"{tmp_path}"').replace('"0.0.0.0"', '"127.0.0.1"')
    ports = {"4222": str(port), "8222": str(monitor)}
    text = re.sub("4222|8222", lambda found: ports[found[0]], text)
    conf = root / mounted["target"].lstrip("/")
    conf.parent.mkdir(parents=True)
    conf.write_text(text)
    assert service["command"] == ["-c", mounted["target"]]
    server = subprocess.Popen([binary(), "-c", str(conf)])
    try:
        yield DeployedNats(port, f"http://127.0.0.1:{monitor}")
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def postgres() -> Generator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def empty_database(postgres: PostgresServer) -> str:
    """As an operator hands it over: nothing is in it."""
    name = f"empty_{next(_databases)}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return url_of(postgres.dsn, name)


@pytest.fixture
async def processes() -> AsyncGenerator[list[subprocess.Popen[bytes]]]:
    """Stopped at the end, whatever happened; each must end by itself when it is told to."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.terminate()
    codes = [await asyncio.to_thread(process.wait, 60) for process in started]
    for process in started:
        if process.stdout is not None:
            process.stdout.close()
    assert codes == [0] * len(started)


async def until_said(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Read what a process says until it says that."""
    assert process.stdout is not None
    said: list[bytes] = []
    async with asyncio.timeout(60):
        while not said or words not in said[-1]:
            said.append(await asyncio.to_thread(process.stdout.readline))
            assert said[-1], b"".join(said).decode()


async def until_healthy(command: list[str], environment: dict[str, str]) -> None:
    """Run a health check as the engine would, until it passes."""
    async with asyncio.timeout(60):
        while True:
            check = await asyncio.create_subprocess_exec(*command, env=environment)
            if await check.wait() == 0:
                return


async def test_containers_of_workspaces_are_let_in_as_their_deputies_alone(
    secrets_made: Path, deployed_nats: DeployedNats
) -> None:
    url = (secrets_made / "tools_nats_url").read_text()
    url = url.replace("nats:4222", f"127.0.0.1:{deployed_nats.port}")
    keys = Keys((secrets_made / "deputy_secret").read_text())
    strangers = Keys("another secret of a good length, but not ours")
    mine = WorkspaceId("11111111-2222-4333-8444-555555555555")
    asked: list[WorkspaceId] = []

    async def runs(workspace_id: WorkspaceId) -> bool:
        asked.append(workspace_id)
        return True

    async def connected(url: str, wait_s: float = 30.0) -> NatsClient:
        return await connect(
            url, name="x", inbox_prefix=inbox("tools"), on_closed=lambda: None, wait_s=wait_s
        )

    tools = await connected(url)
    (account,) = [
        f.default for f in msgspec.structs.fields(ToolsSettings) if f.name == "nats_account"
    ]
    access = DeputyAccess(tools, keys, account=account, runs=runs)
    number = access.open()
    await tools.flush()
    try:
        await close(await connected(deputy_url(url, mine, keys)))
        with pytest.raises(Unavailable):
            await connected(deputy_url(url, mine, strangers), 0.5)
    finally:
        await access.close(number)
        await close(tools)

    assert set(asked) == {mine}


def test_containers_of_workspaces_have_what_they_need_and_no_more() -> None:
    document, more = compose(), compose("compose.containers.yaml")
    tools, nats = more["services"]["tools"], more["services"]["nats"]
    variables = tools["environment"]
    fields = {field.name for field in msgspec.structs.fields(ToolsSettings)}
    target = targets()[tools["build"]["target"]]
    (network,) = set(nats["networks"]) - {"default"}
    socket = tools["volumes"][0].split(":")[1]
    place = f"{document['name']}_{document['services']['tools']['volumes'][0].split(':')[0]}"

    assert {name.removeprefix("STEERSMAN_").lower() for name in variables} <= fields
    assert set(more["services"]) == {"tools", "nats"}  # nobody else is in that network
    assert more["networks"][network]["name"] == variables["STEERSMAN_CONTAINER_NETWORK"]
    assert variables["STEERSMAN_CONTAINER_IMAGE"] == f"{document['name']}-tools"
    assert f"/{place}/" in variables["STEERSMAN_CONTAINER_DIRECTORY"]
    assert variables["STEERSMAN_CONTAINER_ENGINE"] in PROGRAMS
    assert (target.user, target.command) == ("steersman", targets()["tools"].command)
    assert [image.split(":")[0] for image in target.images] == ["docker"]
    assert socket == "/var/run/docker.sock"


@pytest.mark.timeout(300)
async def test_everything_in_the_files_runs_and_becomes_healthy(
    secrets_made: Path,
    deployed_nats: DeployedNats,
    empty_database: str,
    tmp_path: Path,
    processes: list[subprocess.Popen[bytes]],
) -> None:
    services = compose()["services"]
    nats_check = services["nats"]["healthcheck"]["test"][-1]
    probe = [sys.executable, "-m", "steersman_runtime.probe"]
    plain = {"PATH": os.environ["PATH"]}
    await until_healthy([*probe, deployed_nats.monitor + nats_check.split("8222")[1]], plain)
    (secrets_made / "database_url").write_text(empty_database)

    for name in SETTINGS:
        target = targets()[name]
        port = str(free_port())
        environment = plain | target.environment
        for variable, value in services[name]["environment"].items():
            environment[variable] = re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
        for variable, value in environment.items():
            secret = value.removeprefix("/run/secrets/")
            if secret != value:
                path = secrets_made / secret
                path.write_text(
                    path.read_text().replace("nats:4222", f"127.0.0.1:{deployed_nats.port}")
                )
                environment[variable] = str(path)
        environment["STEERSMAN_LISTEN"] = f"127.0.0.1:{port}"
        if name == "tools":
            environment["STEERSMAN_WORKSPACES_DIR"] = str(tmp_path / "workspaces")
        if name == "desktop":
            environment["STEERSMAN_RECORDINGS_DIR"] = str(tmp_path / "recordings")
        command = [sys.executable, *target.command[1:]]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)  # noqa: ASYNC220
        processes.append(process)
        # A check is a process of its own: as many as fit into a start are more work than that.
        await until_said(process, b"service.started")
        health = [part.replace(str(target.port), port) for part in target.health]
        await until_healthy([sys.executable, *health[1:]], environment)


def test_the_first_admin_can_be_made_from_the_store_container(empty_database: str) -> None:
    for command in ("migrate", "bootstrap"):
        done = subprocess.run(
            [sys.executable, "-m", "steersman_store", command],
            env={"PATH": os.environ["PATH"], "STEERSMAN_DATABASE_URL": empty_database},
            capture_output=True,
            text=True,
            check=True,
        )

    assert re.search(r"^sign in  http://127.0.0.1:8700/sign-in/\S{20,}", done.stdout)
    assert re.search(r"^token    steersman_\S{40,}$", done.stdout, re.MULTILINE)
